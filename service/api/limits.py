"""What is too large for the event loop."""

__all__ = ["LARGE_ANSWER_NUMBERS", "LARGE_BODY_BYTES", "LARGE_DRAWN_PIXELS", "LARGE_RAW_BYTES", "LARGE_READ_PIXELS"]

# Above these sizes a body is parsed, and an answer written, off the event loop: neighbours must not wait for them.
LARGE_BODY_BYTES = 256_000
LARGE_RAW_BYTES = 2**19  # of tensors as they are in memory: 0.3 ms as FP16, and 1.2 ms where its values are subnormal
LARGE_ANSWER_NUMBERS = 64_000
# The same for pictures, which are large by what they hold: drawing them takes longer than writing numbers.
LARGE_READ_PIXELS = 64_000
LARGE_DRAWN_PIXELS = 10_000
