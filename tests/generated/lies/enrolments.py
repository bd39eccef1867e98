"""Lies in enrolments and the schedule, said by the operator beside any job."""

from collections.abc import Iterator

from ledger.keys import SigningKey
from ledger.statements import Schedule
from tests.drafts import key_of
from tests.generated.lies.fault import Fault
from tests.generated.node import Party, party


class Beside(Fault):
    """An honest job; before it the operator says something that cannot stand."""

    def steps(self) -> Iterator[None]:
        self.said = self.say()
        yield
        yield from super().steps()

    def say(self) -> str:
        raise NotImplementedError

    def named(self) -> str:
        return f"entry {self.market.at[self.said]}"


class BorrowedKey(Beside):
    """Somebody enrols with another's key under a new name."""

    code = "duplicate_key"

    def say(self) -> str:
        seed = key_of(self.market.researchers[1].name).to_text()
        old = SigningKey.from_text(seed)
        key = SigningKey("another.example", old._private)
        self.market.enrol(new := Party("another.example", key), "researcher")
        return new.id


class SecondOperator(Beside):
    """Another operator enrols."""

    code = "second_operator"

    def say(self) -> str:
        self.market.enrol(new := party("rival.example"), "operator")
        return new.id


class SecondSchedule(Beside):
    """The operator makes epochs longer, so that closes come later."""

    code = "second_schedule"

    def say(self) -> str:
        later = Schedule(10**6, 10**6, self.market.now)
        return self.market.put(later, self.market.operator.key)


LIES: tuple[type[Fault], ...] = (BorrowedKey, SecondOperator, SecondSchedule)
