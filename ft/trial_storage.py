"""Where an Optuna study is kept: the sweep proposes from it, and its runs report to it from processes of their own."""

import os
from pathlib import Path

import optuna
import sqlalchemy.engine
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage, get_storage
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from ft.errors import UserError


def open_storage(url: str, *, patience: float) -> BaseStorage:
    """Opens a storage, and makes it where there is none.

    Args:
        url: As Optuna takes it: ``sqlite:////folder/study.db``, ``postgresql://...``, ``mysql://...``.
        patience: Seconds to wait for others that write into an SQLite file.

    Raises:
        UserError: It cannot be opened.
    """
    # What there is to say about trials is said by the sweep.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        if not url.startswith("sqlite:"):
            return get_storage(url)
        _make_whole(url, patience)
        return _open_sqlite(url, patience)
    except (SQLAlchemyError, StorageInternalError, ImportError, RuntimeError) as error:
        raise UserError(refusal(url, error)) from None


def _open_sqlite(url: str, patience: float) -> RDBStorage:
    # No connection stays open: neither a process that is forked nor a lock that is left behind can disturb others.
    return RDBStorage(url, {"poolclass": NullPool, "connect_args": {"timeout": patience}})


def _make_whole(url: str, patience: float) -> None:
    """Makes an SQLite file that is not there yet beside its place, then gives it its name.

    Optuna makes table after table, and an index for each; where it finds a table it does not look for its index. A
    process that is killed between the two would leave a file in which two studies may have the same name.
    """
    place = sqlalchemy.engine.make_url(url)
    name = place.database
    if not name or name == ":memory:" or Path(name).exists() or not Path(name).parent.is_dir():
        return
    making = Path(f"{name}.making-{os.getpid()}")
    making.unlink(missing_ok=True)
    try:
        _open_sqlite(place.set(database=str(making)).render_as_string(hide_password=False), patience)
        # Whoever is first wins: unlike a rename, a link never replaces.
        os.link(making, name)
    except FileExistsError:
        pass
    finally:
        making.unlink(missing_ok=True)


def refusal(url: str, error: BaseException) -> str:
    """Why a storage cannot be used, without its password."""
    cause = error if error.__cause__ is None else error.__cause__
    reason = str(getattr(cause, "orig", None) or cause).strip().splitlines()[0]
    try:
        shown = sqlalchemy.engine.make_url(url).render_as_string(hide_password=True)
    except SQLAlchemyError:
        shown = url
    return f"sweep.storage={shown} cannot be used: {reason}.\nAnother process may hold it, or its folder is missing."
