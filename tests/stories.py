"""What parties do in a log, honest or not: each story is played into a world by calling it."""

from collections.abc import Callable
from dataclasses import replace

from ledger.encoding import sha256_text
from ledger.keys import SigningKey
from ledger.statements import Line, Posting, Settlement, Summand, Valuation, postings
from tests.drafts import SECOND, Party, key_of
from tests.world import World

FAILED = {"state": "failed", "reason": "task_error"}
OTHER_CODE = sha256_text(b"other code")

Story = Callable[[World], object]


def participant(name: str, *roles: str, key: str = "") -> Story:
    def story(world: World) -> None:
        party = Party(name, key_of(key or name))
        statement = world.participant(party, *roles)
        world.insecure_put(statement.sign(party.key))

    return story


def same_key_twice(world: World) -> None:
    # Another name for the same secret key, which only the curve point gives away.
    first = world.providers[0].key
    alias = SigningKey("alias.example", first._private)
    statement = world.participant(Party("alias.example", alias), "provider")
    world.insecure_put(statement.sign(alias))


def asset(measured_by: str = "", valued_ppm: int = 0) -> Story:
    def story(world: World) -> None:
        provider = world.providers[0]
        measurement = world.measurement(provider)
        key = key_of(measured_by) if measured_by else world.node_key(provider)
        quality = valued_ppm or measurement.quality.score_ppm
        world.insecure_put(
            world.asset(
                provider,
                name="another",
                measurement=measurement.sign(key),
                valuation=Valuation.of(100, quality),
            )
        )

    return story


def asset_by_researcher(world: World) -> None:
    researcher = world.researcher
    provider = replace(world.providers[0], id=researcher.id)
    world.insecure_put(world.asset(provider))


def offer_of(asset_of: int) -> Story:
    def story(world: World) -> None:
        first = world.providers[0]
        world.insecure_put(world.offer(first, asset=world.providers[asset_of].asset))

    return story


def an_offer_signed(ahead: int) -> Story:
    """By a clock that is so many milliseconds ahead of the log's."""

    def story(world: World) -> None:
        # It is logged a second later.
        issued = world.clock() + SECOND + ahead
        world.insecure_put(world.offer(world.providers[0], issued=issued))

    return story


def agreement_with(offer_of: int, asset_of: int) -> Story:
    def story(world: World) -> None:
        offer, subject = world.providers[offer_of], world.providers[asset_of]
        world.insecure_put(
            world.agreement(world.providers[0], offer=offer.offer, asset=subject.asset)
        )

    return story


def agreement_with_another_asset(world: World) -> None:
    first = world.providers[0]
    second = world.put(world.asset(first, name="second"))
    world.insecure_put(world.agreement(first, asset=second))


def agreement_with_right_asset(world: World) -> None:
    first = world.providers[0]
    world.put(world.asset(first, name="second"))
    world.insecure_put(world.agreement(first))


def agreement_by(role_of: str) -> Story:
    def story(world: World) -> None:
        party = world.researcher if role_of == "researcher" else world.providers[1]
        world.insecure_put(world.agreement(world.providers[0], researcher=party.id))

    return story


def job_with_swapped_agreements(*, swapped: bool) -> Story:
    def story(world: World) -> None:
        agreements = [provider.agreement for provider in world.providers]
        if swapped:
            agreements[:2] = agreements[1::-1]
        world.insecure_put(world.job(agreements=tuple(agreements)))

    return story


def job_by_a_second_researcher(*, with_own_agreements: bool) -> Story:
    def story(world: World) -> None:
        second = Party("second.example", key_of("second.example"))
        world.keys[world.insecure_put(world.participant(second, "researcher").sign(second.key))] = (
            second.key
        )
        second.id = list(world.statements)[-1]
        agreements = [provider.agreement for provider in world.providers]
        if with_own_agreements:
            agreements = [
                world.put(world.agreement(provider, researcher=second.id))
                for provider in world.providers
            ]
        world.insecure_put(world.job(researcher=second.id, agreements=tuple(agreements)))

    return story


def grant(job: dict[str, object] | None = None, **changes: object) -> Story:
    """One grant for one job; `cohort=int` names that many assets."""

    def story(world: World) -> None:
        provider = world.providers[0]
        name = world.put(world.job(**(job or {})))
        fields = dict(changes)
        if isinstance(cohort := fields.get("cohort"), int):
            fields["cohort"] = tuple(item.asset for item in world.providers[:cohort])
        world.insecure_put(world.grant(provider, name, **fields))

    return story


def grant_of_anothers_agreement(world: World) -> None:
    first, second = world.providers[:2]
    job = world.put(world.job())
    world.insecure_put(world.grant(first, job, agreement=second.agreement, asset=second.asset))


def grant_of_own_agreement(world: World) -> None:
    world.insecure_put(world.grant(world.providers[0], world.put(world.job())))


def grant_for_an_unused_asset(*, used: bool) -> Story:
    def story(world: World) -> None:
        first, *others = world.providers
        some = world.providers if used else others
        job = world.put(
            world.job(
                assets=tuple(item.asset for item in some),
                agreements=tuple(item.agreement for item in some),
            )
        )
        world.insecure_put(world.grant(first, job))

    return story


def grant_after(milliseconds: int) -> Story:
    def story(world: World) -> None:
        job = world.put(world.job())
        world.clock.advance(milliseconds)
        world.insecure_put(world.grant(world.providers[0], job))

    return story


def receipt(*, early: bool = False, **changes: object) -> Story:
    """One completed receipt; `early` claims a log that had no grant yet."""

    def story(world: World) -> None:
        provider = world.providers[0]
        size = world.log.size
        job, grants = world.granted_job()
        fields = dict(changes)
        if early:
            fields["log_size"] = size
        if isinstance(rounds := fields.pop("rounds", None), int):
            fields["contributions"] = world.contributions(provider, job, rounds)
        told = replace(world.receipt(provider, job, grants[0]), **fields)
        world.insecure_put(told)

    return story


def receipt_having_read(beyond: int) -> Story:
    """A node that had read so many entries from the grant on."""

    def story(world: World) -> None:
        job, grants = world.granted_job()
        size = world.log.index_of(grants[0]) + beyond
        world.insecure_put(world.receipt(world.providers[0], job, grants[0], log_size=size))

    return story


def receipt_after_the_grant(milliseconds: int) -> Story:
    """A node that had read an entry this much later than its grant's end, and computed."""

    def story(world: World) -> None:
        provider, job = world.providers[0], world.put(world.job())
        grant = world.grant(provider, job)
        name = world.put(grant)
        world.clock.now = grant.until + milliseconds - SECOND
        world.put(world.offer(provider))
        assert world.entries()[-1].time == grant.until + milliseconds
        world.insecure_put(world.receipt(provider, job, name))

    return story


def receipt_under_the_grant_of(which: int) -> Story:
    def story(world: World) -> None:
        job, grants = world.granted_job()
        world.insecure_put(world.receipt(world.providers[0], job, grants[which]))

    return story


def receipt_from_the_future(ahead: int) -> Story:
    def story(world: World) -> None:
        job, grants = world.granted_job()
        size = world.log.size + ahead
        world.insecure_put(world.receipt(world.providers[0], job, grants[0], log_size=size))

    return story


def receipt_of_a_job_that_is_not_logged(state: str) -> Story:
    def story(world: World) -> None:
        job, grants = world.granted_job()
        ghost = "job:" + "0" * 64
        refused = {"state": "refused", "reason": "not_proven"} if state == "refused" else {}
        name = grants[0] if state == "completed" else None
        world.insecure_put(world.receipt(world.providers[0], ghost, name, **refused))
        del job

    return story


def receipts(times: int) -> Story:
    def story(world: World) -> None:
        job, grants = world.granted_job()
        for number in range(times):
            world.insecure_put(
                world.receipt(world.providers[0], job, grants[0], issued=world.clock() + number)
            )

    return story


def ends(first: str, then: str) -> Story:
    """A node tells twice how one job ended."""
    reasons = {"completed": None, "failed": "task_error", "refused": "grant_mismatch"}

    def story(world: World) -> None:
        job, grants = world.granted_job()
        node, grant = world.providers[0], grants[0]
        world.put(world.receipt(node, job, grant, state=first, reason=reasons[first]))
        world.insecure_put(world.receipt(node, job, grant, state=then, reason=reasons[then]))

    return story


def uses(times: int) -> Story:
    """As many completed jobs under agreements that permit three, all granted before the first."""

    def story(world: World) -> None:
        granted = [world.granted_job() for _ in range(times)]
        for job, grants in granted:
            world.insecure_put(world.receipt(world.providers[0], job, grants[0]))

    return story


def grant_after_uses(times: int) -> Story:
    def story(world: World) -> None:
        for _ in range(times):
            job, grants = world.granted_job()
            world.put(world.receipt(world.providers[0], job, grants[0]))
        last = world.put(world.job())
        world.insecure_put(world.grant(world.providers[0], last))

    return story


def release(*, without: int = 0, times: int = 1, changed_reply: bool = False) -> Story:
    def story(world: World) -> None:
        job, _, names = world.receipted_job()
        names = names[: len(names) - without]
        for number in range(times):
            statement = world.release(job, names, issued=world.clock() + number)
            if changed_reply:
                first, *rest = statement.contributions
                false = Summand(first.receipt, first.round, sha256_text(b"added by the operator"))
                statement = replace(statement, contributions=(false, *rest))
            world.insecure_put(statement)

    return story


def release_resting_on_a_refusal(*, refused: bool) -> Story:
    def story(world: World) -> None:
        job, grants = world.granted_job()
        pairs = list(zip(world.providers, grants, strict=True))
        names = [world.put(world.receipt(p, job, g)) for p, g in pairs[1:]]
        first, granted = pairs[0]
        if refused:
            contributions = world.contributions(first, job)
            # A failed receipt may carry contributions; the result may not rest on them.
            failed = {"state": "failed", "reason": "internal", "contributions": contributions}
            names.append(world.put(world.receipt(first, job, granted, **failed)))
        else:
            names.append(world.put(world.receipt(first, job, granted)))
        world.insecure_put(world.release(job, names))

    return story


def settled(change: Callable[[World, Settlement], Settlement] | None = None) -> Story:
    def story(world: World) -> None:
        job, _, names = world.receipted_job()
        released = world.put(world.release(job, names))
        statement = world.settlement(job, released)
        world.insecure_put(change(world, statement) if change else statement)

    return story


def one_line_short(world: World, bill: Settlement) -> Settlement:
    return world.settlement(bill.job, bill.release, lines=bill.lines[1:])


def dearer(world: World, bill: Settlement) -> Settlement:
    first, *rest = bill.lines
    line = Line(first.agreement, first.provider, 1_001, 101, 900)
    return world.settlement(bill.job, bill.release, lines=(line, *rest))


def greedy(world: World, bill: Settlement) -> Settlement:
    first, *rest = bill.lines
    line = replace(first, fee_cents=first.fee_cents + 1, share_cents=first.share_cents - 1)
    return world.settlement(bill.job, bill.release, lines=(line, *rest))


def paid_to_another(world: World, bill: Settlement) -> Settlement:
    first, *rest = bill.lines
    line = replace(first, provider=world.providers[1].id)
    return world.settlement(bill.job, bill.release, lines=(line, *rest))


def skimmed(_world: World, bill: Settlement) -> Settlement:
    first, *middle, fees = bill.postings
    return replace(bill, postings=(first, *middle, Posting(fees.account, fees.amount_cents + 1)))


def billed_to_another(world: World, bill: Settlement) -> Settlement:
    other = world.providers[0].id
    return replace(bill, researcher=other, postings=postings(other, bill.lines))


def settled_for_another_job(*, another: bool) -> Story:
    def story(world: World) -> None:
        first, _, names = world.receipted_job()
        released = world.put(world.release(first, names))
        second = world.put(world.job())
        world.insecure_put(world.settlement(second if another else first, released))

    return story


def settled_times(times: int) -> Story:
    def story(world: World) -> None:
        job, _, names = world.receipted_job()
        released = world.put(world.release(job, names))
        for number in range(times):
            bill = world.settlement(job, released, issued=world.clock() + number)
            world.insecure_put(bill)

    return story


def an_offer(world: World) -> None:
    world.insecure_put(world.offer(world.providers[0]))


def an_agreement(world: World) -> None:
    world.insecure_put(world.agreement(world.providers[0]))
