"""`make quality`: how good what we train is, next to published figures and to references run on the same rows."""
