"""`make bench-reliability`: what clients see while versions change, workers die and more is asked than can be done."""
