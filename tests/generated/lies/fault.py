"""What all jobs with a lie in them have in common."""

from tests.generated.lives import Life


class Fault(Life):
    """A job with a lie in it.

    Attributes:
        code: as what it should be found.
        parties: how many nodes the job needs.
        at: places of the nodes that it needs, where these must not be any.
    """

    code = ""
    parties = 1
    at: tuple[int, ...] = ()
    erasable = False

    def named(self) -> str:
        """What the finding must name; the job, unless told otherwise."""
        return self.job
