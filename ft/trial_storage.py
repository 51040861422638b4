"""Where an Optuna study is kept: the sweep proposes from it, and its runs report to it from processes of their own."""

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
        # No connection stays open: neither a process that is forked nor a lock that is left behind can disturb others.
        return RDBStorage(url, {"poolclass": NullPool, "connect_args": {"timeout": patience}})
    except (SQLAlchemyError, StorageInternalError, ImportError, RuntimeError) as error:
        raise UserError(refusal(url, error)) from None


def refusal(url: str, error: BaseException) -> str:
    """Why a storage cannot be used, without its password."""
    cause = error if error.__cause__ is None else error.__cause__
    reason = str(getattr(cause, "orig", None) or cause).strip().splitlines()[0]
    try:
        shown = sqlalchemy.engine.make_url(url).render_as_string(hide_password=True)
    except SQLAlchemyError:
        shown = url
    return f"sweep.storage={shown} cannot be used: {reason}.\nAnother process may hold it, or its folder is missing."
