"""Wrong implementations, each one line away from a right one, and right ones that look odd.

They measure the power of the laws: every mutant must die, every law must kill at least one, and every odd variant
must live.  `ci/mutants.py` judges all of them and writes the kill matrix.
"""

from tests.laws.mutants import answers as answers
from tests.laws.mutants import architectures as architectures
from tests.laws.mutants import energy as energy
from tests.laws.mutants import equilibrium as equilibrium
from tests.laws.mutants import gradients as gradients
from tests.laws.mutants import inference as inference
from tests.laws.mutants import learning as learning
from tests.laws.mutants import limits as limits
from tests.laws.mutants import odd as odd
from tests.laws.mutants import scaling as scaling
from tests.laws.mutants import state as state
from tests.laws.mutants.plain_architectures import PlainArchitectures as PlainArchitectures
from tests.laws.mutants.register import MUTANTS as MUTANTS
from tests.laws.mutants.register import ODD as ODD
from tests.laws.mutants.register import Mutant as Mutant
from tests.laws.mutants.register import Odd as Odd
