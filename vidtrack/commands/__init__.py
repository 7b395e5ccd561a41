"""The commands, a function each: parse, call one library function, print. Heavy imports stay inside them."""
