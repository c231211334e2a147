// The entry: what every page does. Each part is a small module of its own.
import "./live.js";
import "./keys.js";
import "./jump.js";
import "./ui.js";
