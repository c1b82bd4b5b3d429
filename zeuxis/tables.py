"""Writes the hits of many layouts into one Parquet or CSV file, a layout at a time, whole or not at all."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from .index.table import HIT_SCHEMA, plain_text
from .storage.errors import InputError, sentence
from .storage.outputs import check_output

if TYPE_CHECKING:
    import pyarrow as pa


class HitWriter:
    """A table that grows under a temporary name and gets its own when the `with` ends without an error.

    Args:
        path: of the table, `.parquet` or `.csv`.

    Raises:
        InputError: nothing can be written there, found before any work is done.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix.lower() not in (".parquet", ".csv"):
            found = repr(path.suffix) if path.suffix else "no suffix"
            raise InputError(sentence(path, expected="a name that ends in .parquet or .csv", found=found))
        check_output(path)
        self.path = path
        self._temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")

    def __enter__(self) -> HitWriter:
        import pyarrow as pa
        from pyarrow.csv import CSVWriter
        from pyarrow.parquet import ParquetWriter

        schema = HIT_SCHEMA.insert(0, pa.field("layout", pa.string()))
        kind = ParquetWriter if self.path.suffix.lower() == ".parquet" else CSVWriter
        try:
            self._writer = kind(str(self._temporary), schema)
        except OSError as error:
            raise self._refused(error) from error
        return self

    def add(self, layout: str | Path, hits: pa.Table) -> None:
        """Adds the hits of one layout, after a column with its name."""
        import pyarrow as pa

        names = pa.array([plain_text(str(layout))] * len(hits), pa.string())
        try:
            self._writer.write_table(hits.add_column(0, "layout", names))
        except OSError as error:
            raise self._refused(error) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._writer.close()
            if kind is None:
                os.replace(self._temporary, self.path)
        except OSError as refused:
            raise self._refused(refused) from refused
        finally:
            with suppress(OSError):
                self._temporary.unlink(missing_ok=True)

    def _refused(self, error: OSError) -> InputError:
        return InputError(
            sentence(self.path, f"cannot be written ({error.strerror or error})", fix="choose another place")
        )
