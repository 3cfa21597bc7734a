"""Ranks: processes that train one network together, as torchrun and ``fabric run`` start them.

Rank 0 does the whole run; the others help to train the base, and end with it. Rank 0 tells them what to do, so that its
files alone count.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from coterie.errors import SettingsError

# torchrun sets it in the processes that it starts, and nothing else does: RANK alone may be a scheduler's.
MEMBERSHIP = "TORCHELASTIC_RUN_ID"


@dataclass(frozen=True)
class Ranks:
    """The number of this process among those that train together; how many they are, in all and on this machine."""

    rank: int = 0
    world: int = 1
    here: int = 1

    @classmethod
    def of_environment(cls) -> Ranks:
        """Read torchrun's variables; ALONE where there are none."""
        if MEMBERSHIP not in os.environ:
            return cls()
        return cls(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")))

    @property
    def part(self) -> slice:
        """The part of a batch that this rank takes: every ``world``-th sample."""
        return slice(self.rank, None, self.world)

    def check_batch_size(self, batch_size: int) -> None:
        """Refuse a batch size that cannot be shared out evenly.

        Raises:
            SettingsError: it is no multiple of the number of ranks.
        """
        if batch_size % self.world:
            raise SettingsError(
                f"base.batch_size = {batch_size} cannot be shared out evenly over {self.world} ranks; allowed: "
                f"multiples of {self.world}"
            )

    @property
    def leads(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0


ALONE = Ranks()


def forget_launcher_variables() -> None:
    """Delete the environment variables by which ``fabric run`` passes on its options.

    They override the arguments of each Fabric that is made in this process; coterie's settings say the same.
    """
    for name in [name for name in os.environ if name.startswith("LT_")]:
        del os.environ[name]


def forget_ranks() -> None:
    """Delete the environment variable that makes this process one of several ranks."""
    os.environ.pop(MEMBERSHIP, None)
