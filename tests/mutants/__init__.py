"""Wrong implementations, each one line away from a right one, and right ones that look odd.

They measure the power of the laws: every mutant must die, every law must kill at least one, and every odd variant
must live.  `ci/mutants.py` judges all of them and writes the kill matrix.
"""

from mutants import answers as answers
from mutants import architectures as architectures
from mutants import energy as energy
from mutants import equilibrium as equilibrium
from mutants import gradients as gradients
from mutants import inference as inference
from mutants import learning as learning
from mutants import limits as limits
from mutants import odd as odd
from mutants import scaling as scaling
from mutants import state as state
from mutants.plain_architectures import PlainArchitectures as PlainArchitectures
from mutants.register import MUTANTS as MUTANTS
from mutants.register import ODD as ODD
from mutants.register import Mutant as Mutant
from mutants.register import Odd as Odd
