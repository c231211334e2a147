"""Pages about where runs execute. What they say of runs comes through the relations ``runs`` of the rows."""
