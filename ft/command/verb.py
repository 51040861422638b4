"""What every verb shares: Hydra around it, and mistakes told in one to three lines with exit code 2."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# Before Hydra is imported: with it, Hydra raises its errors instead of printing them and ending the process.
os.environ.setdefault("HYDRA_FULL_ERROR", "1")
# Before torch is imported: compute threads wait for each other asleep. OpenMP lets them spin, and they then hold the
# processor that the last of them needs as soon as anybody else wants one, a decoding process or another run. Forward
# passes of tf_efficientnet_lite0 on 2 threads: 149 images/s instead of 153 on 2 quiet cores, 117 instead of 9 beside
# another process.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError

from ft.command.given import check_given
from ft.command.help import show_help
from ft.command.mistakes import bracketed, explain, explain_value
from ft.command.resumed import changing_a_run
from ft.command.search_path import register
from ft.command.sigterm import sigterm_ends_in_order
from ft.command.words import check_words, options_first
from ft.errors import Answer, RunFailed, Terminated, UserError
from ft.machine.allocator import keep_freed_memory

CONF = Path(__file__).parent.parent.parent / "conf"
FAILED, USER_ERROR, INTERRUPTED, TERMINATED = 1, 2, 130, 143


def run_verb(verb: Callable[[DictConfig], Any], config_name: str, *, lists: Sequence[str] = ()) -> None:
    """Composes the config from the command line and calls the verb with it.

    Args:
        verb: Gets the composed config; heavy imports are its own.
        config_name: The YAML in ``conf`` without its ending.
        lists: Keys whose values may be written ``key=a,b`` for ``key=[a,b]``, unless it is a sweep.
    """

    def checked(config: DictConfig) -> Any:
        # Here, and not before Hydra: a launcher's worker process gets this function alone.
        keep_freed_memory()
        try:
            check_given(config, config_name)
            return verb(config)
        except (UserError, OmegaConfBaseException) as error:
            if HydraConfig.get().mode is RunMode.MULTIRUN:
                raise  # The other jobs of a sweep go on; Hydra raises it again at the end.
            raise SystemExit(_tell(_in_words(error))) from None
        except Answer as answer:
            print(answer)
            return None

    sys.argv[1:] = bracketed(sys.argv[1:], lists)
    register()
    if {"--help", "-h"} & set(sys.argv[1:]):
        show_help(CONF, config_name)
    try:
        check_words(sys.argv[1:], CONF, config_name)
        sys.argv[1:] = changing_a_run(options_first(sys.argv[1:]))
        with sigterm_ends_in_order():
            hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(checked)()
    except (HydraException, OmegaConfBaseException) as error:
        raise SystemExit(_tell(explain(error, CONF, config_name, sys.argv[1:]))) from None
    except UserError as error:
        raise SystemExit(_tell(str(error))) from None
    except RunFailed as error:
        _tell(str(error))
        raise SystemExit(FAILED) from None
    except MarkedYAMLError as error:
        raise SystemExit(_tell(f"a config is not valid YAML: {error.problem}\n{error.problem_mark}")) from None
    except PermissionError as error:
        raise SystemExit(_tell(f"{error.filename}: {error.strerror}. If runs go there, set runs_dir.")) from None
    except Terminated:
        raise SystemExit(TERMINATED) from None
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    finally:
        _leave_process_group()


def _leave_process_group() -> None:
    """Of several processes; its threads would otherwise still run when Python ends, and abort the process at times."""
    distributed = getattr(sys.modules.get("torch"), "distributed", None)
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _in_words(error: UserError | OmegaConfBaseException) -> str:
    return explain_value(error, CONF, sys.argv[1:]) if isinstance(error, OmegaConfBaseException) else str(error)


def _tell(message: str) -> int:
    print(f"ft: {message}", file=sys.stderr)
    return USER_ERROR
