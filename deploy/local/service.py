"""Run one service for the supervisor: `python -m deploy.local.service tts`; or wait to become one: `… standby FD`.

It imports the service with as little CPU as possible, because after a death the caller waits for that.
"""

import gc
import sys
from importlib import import_module

SERVICES = ("vad", "asr", "llm", "tts", "edge")


def main() -> int:
    # A tenth of the imports is rich, for tracebacks of structlog that no log of a service contains.
    sys.modules["rich"] = None  # type: ignore[assignment]  # importing it raises ImportError
    import_module("structlog")
    del sys.modules["rich"]
    gc.disable()  # collections while modules are imported take a sixth of the time
    name = sys.argv[1]
    modules = {one: import_module(f"services.{one}.__main__") for one in (SERVICES if name == "standby" else (name,))}
    gc.freeze()  # and later ones need not look at what stays for good
    gc.enable()
    if name == "standby":
        from deploy.local.standby import become_service

        name = become_service(int(sys.argv[2]))
    from shared.settings import BadSettings
    from shared.worker.service import EXIT_SETTINGS

    try:
        code: int = modules[name].main()
    except BadSettings as error:
        print(error, file=sys.stderr)
        code = EXIT_SETTINGS
    return code


if __name__ == "__main__":
    sys.exit(main())
