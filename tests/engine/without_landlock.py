"""Python on a kernel without Landlock, whose calls answer ENOSYS: `without_landlock.py -m MODULE …`."""

import ctypes
import errno
import runpy
import sys

from bot.engine.confinement import seccomp
from bot.engine.confinement.kernel import PR_SET_SECCOMP, prctl, renounce_privileges

if __name__ == "__main__":
    lines = [
        (seccomp._LOAD, 0, 0, seccomp._NUMBER),
        (seccomp._EQUAL, 0, 1, 444),
        (seccomp._RETURN, 0, 0, seccomp._REFUSE | errno.ENOSYS),
        (seccomp._RETURN, 0, 0, seccomp._ALLOW),
    ]
    renounce_privileges()
    program = seccomp._Program(len(lines), (seccomp._Instruction * len(lines))(*lines))
    prctl(PR_SET_SECCOMP, seccomp._MODE_FILTER, ctypes.byref(program))
    del sys.argv[0]
    assert sys.argv.pop(0) == "-m"
    runpy.run_module(sys.argv[0], run_name="__main__")
