"use strict";
// What was set aside or left out is a plain table of the template: nothing to draw.
