// The entry: what every page does. A page's own module imports what it needs from the same files.
import "./live.js";
import "./keys.js";
import "./jump.js";
import "./ui.js";
