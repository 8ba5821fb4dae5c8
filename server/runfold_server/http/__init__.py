"""How requests are declared, parsed and dispatched, and how answers are sent."""
