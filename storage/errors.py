"""Every error zeuxis raises on purpose, in one tree.

ZeuxisError
├── InputError            an argument or a file the user gave is not usable
│   ├── LayoutError       a layout to retrieve or paint for
│   ├── DatasetError      a data set as a whole: missing, empty, unreadable
│   └── FilterError       `where=`, `exclude=`, `k`, `weights`
├── BankError             the bank as a whole
│   ├── NotABankError     the folder is no bank
│   ├── SchemaError       the bank was written by a newer zeuxis
│   ├── DamagedBankError  a file of the bank is missing, cut short or altered
│   ├── BankBusyError     somebody else is writing the bank
│   └── UnfinishedError   work that had begun could not be finished; the same run may go better
│       └── NoRoomError   the disk is nearly full
├── LeakError             something of val or test was about to be trained on
├── InstallationError     two wheels of one library, a file system without hard links
└── SourceError           one source of a data set: becomes a row in rejects.parquet
"""

from __future__ import annotations


def sentence(what: object, message: str = "", *, expected: str = "", found: str = "", fix: str = "") -> str:
    """One clear sentence: what it is about, what is wrong, expected, found, and what to do."""
    parts = [message, expected and f"expected {expected}", found and f"found {found}"]
    said = f"{what}: " + ", ".join(part for part in parts if part) + (f"; {fix}" if fix else "")
    return " ".join(said.split())


class ZeuxisError(Exception):
    """Base of all. Its text is one sentence for the user (see `sentence`)."""


class InputError(ZeuxisError):
    """An argument or a file the user gave is not usable."""


class LayoutError(InputError):
    """A layout to retrieve or paint for cannot be used."""


class DatasetError(InputError):
    """A data set as a whole cannot be used."""


class FilterError(InputError):
    """A query's filter, exclusion, count or weights cannot be used."""


class BankError(ZeuxisError):
    """The bank as a whole cannot be used."""


class NotABankError(BankError):
    """The folder holds no bank."""


class SchemaError(BankError):
    """The bank was written by a newer zeuxis."""


class DamagedBankError(BankError):
    """A file of the bank is missing, cut short or altered."""


class BankBusyError(BankError):
    """Somebody else is writing the bank."""


class UnfinishedError(BankError):
    """Work that had begun could not be finished: the disk, a worker or the scheduler failed. It may be run again."""


class NoRoomError(UnfinishedError):
    """The disk is nearly full: the work is stopped while what is done can still be kept."""


class LeakError(ZeuxisError):
    """Something that must not be trained on, of `val`, `test` or a layout's own group, is in what would be."""


class InstallationError(ZeuxisError):
    """The installation itself cannot work: two wheels of one library, a file system without hard links."""


class SourceError(ZeuxisError):
    """One source of a data set cannot be used; `reason` is the word that stands in rejects.parquet."""

    def __init__(self, reason: str, said: str) -> None:
        super().__init__(said)
        self.reason = reason

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.reason, str(self))
