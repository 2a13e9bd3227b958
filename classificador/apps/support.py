"""Whether PyTorch exists for this computer: `python classificador/apps/support.py`, before anything is installed.

In the syntax of old Pythons, too, so that they can say what is wrong.
"""

import platform
import sys


def missing(system: str, machine: str, version: "tuple[int, int]", bits: int) -> str:
    """Return in Portuguese what has to be another for the project to be installed; "" where nothing has.

    system, machine: as sys.platform and platform.machine() say; version, bits: of Python, and of its addresses.
    """
    if version < (3, 11):
        return "Preciso do Python 3.11 a 3.14, de 64 bits: make run PYTHON=caminho/do/python3"
    if version > (3, 14):
        return "O PyTorch daqui não existe para o Python {}.{}: make run PYTHON=caminho/do/python3.14".format(*version)
    if bits < 64:
        return "O PyTorch não existe para um Python de 32 bits: instale o de 64."
    if system == "darwin" and machine == "x86_64":
        return "O PyTorch não existe mais para Macs com processador Intel: use outro computador, ou o Colab."
    return ""


if __name__ == "__main__":
    here = missing(sys.platform, platform.machine(), sys.version_info[:2], 64 if sys.maxsize > 2**32 else 32)
    if here:
        print(here)
        sys.exit(1)
