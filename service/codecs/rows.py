"""What the values of one row may be nested as, whatever the codec that brings them."""

from typing import NamedTuple

from bundle.manifest import InputSpec
from service.errors import Fault, InvalidContent, TooManyRows

__all__ = ["RowSpec"]

Shape = tuple[int, ...]


class RowSpec(NamedTuple):
    """The rows that a field of a request must hold. `pointer` names the field in faults, for example `#/inputs`."""

    size: int
    max_rows: int
    pointer: str
    nested: tuple[Shape, ...] = ()
    names: tuple[str, ...] = ()

    @classmethod
    def of_inputs(cls, spec: InputSpec, max_rows: int, *, pointer: str) -> "RowSpec":
        """Input rows: flat, nested as the image that a row is, or objects by feature name."""
        nested: tuple[Shape, ...] = ()
        if spec.image is not None:
            height, width, channels = spec.image.height, spec.image.width, spec.image.channels
            nested = ((height, width, channels),) if channels > 1 else ((height, width), (height, width, 1))
        return cls(spec.size, max_rows, pointer, nested, spec.feature_names or ())

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Every shape that one row may have."""
        return ((self.size,), *self.nested)

    @property
    def expected(self) -> str:
        """What would be right, in words."""
        named = ", or objects by feature name" if self.names else ""
        return f"an array of rows of {self.size} numbers{self._nested}{named}"

    @property
    def expected_row(self) -> str:
        """What would be right for one row, in words."""
        named = ", or an object by feature name" if self.names else ""
        return f"an array of {self.size} numbers{self._nested}{named}"

    @property
    def _nested(self) -> str:
        return "".join(f", or nested as {' x '.join(map(str, shape))}" for shape in self.nested[:1])

    def invalid(self, *faults: Fault) -> InvalidContent:
        """The refusal that names these faults."""
        return InvalidContent(f"{self.pointer.removeprefix('#/')} must be {self.expected}", faults=faults)

    def check_count(self, count: int) -> None:
        """So many rows are allowed. Raises InvalidContent for none, TooManyRows for more than the limit."""
        if count == 0:
            raise self.invalid(Fault("there are no rows", self.pointer))
        if count > self.max_rows:
            raise TooManyRows(f"{count} rows were sent, at most {self.max_rows} are taken at a time")

    def check_shape(self, shape: Shape) -> None:
        """An array of this shape holds rows, or a single row by itself.

        Raises InvalidContent when the shape is none of those allowed, TooManyRows past the limit.
        """
        if shape in self.shapes:
            return
        if shape[1:] not in self.shapes:
            raise self.invalid(Fault(f"the array has the shape {str(list(shape))[:80]}", self.pointer))
        self.check_count(shape[0])
