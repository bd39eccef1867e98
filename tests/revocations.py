"""Stories of what is revoked, and of what rests on it afterwards; see `tests.stories`."""

from ledger.statements import Statement
from tests.stories import Story
from tests.world import World


def revoked(target: str, then: Story, *, before: bool = True) -> Story:
    """Revoke something of the first provider before or after what rests on it."""

    def story(world: World) -> None:
        provider = world.providers[0]
        revocation = world.revoke(provider, getattr(provider, target))
        if before:
            world.put(revocation)
        then(world)
        if not before:
            world.put(revocation)

    return story


def receipt_after_revoking(what: str, *, seen: bool) -> Story:
    """The node had read the revocation, or had not: its log size says so."""

    def story(world: World) -> None:
        job, grants = world.granted_job()
        first, second, _ = world.providers
        issuer, target = {
            "grant": (first, grants[0]),
            "researcher": (world.researcher, world.researcher.id),
            "another asset": (second, second.asset),
            "another provider": (second, second.id),
            "job": (world.operator, job),
        }[what]
        size = world.log.size
        world.put(world.revoke(issuer, target))
        size += 1 if seen else 0
        world.insecure_put(world.receipt(first, job, grants[0], log_size=size))

    return story


def revocation_by(who: str) -> Story:
    def story(world: World) -> None:
        issuer = {
            "owner": world.providers[0],
            "stranger": world.providers[1],
            "operator": world.operator,
        }[who]
        world.insecure_put(world.revoke(issuer, world.providers[0].offer))

    return story


def job_revoked_by(who: str) -> Story:
    """Only the operator may say that a job has no result: it gives uses back."""

    def story(world: World) -> None:
        issuer = {
            "operator": world.operator,
            "researcher": world.researcher,
            "provider": world.providers[0],
        }[who]
        world.insecure_put(world.revoke(issuer, world.put(world.job())))

    return story


def job_revoked(*, released: bool) -> Story:
    def story(world: World) -> None:
        job, _, receipts = world.receipted_job()
        if released:
            world.put(world.release(job, receipts))
        world.insecure_put(world.revoke(world.operator, job))

    return story


def after_revoking_a_job(then: str, *, the_same: bool) -> Story:
    """A grant or a release after a job was revoked: that job's, or another's."""

    def story(world: World) -> None:
        job, _, receipts = world.receipted_job()
        world.put(world.revoke(world.operator, job if the_same else world.put(world.job())))
        if then == "grant":
            world.insecure_put(world.grant(world.providers[0], job))
        else:
            world.insecure_put(world.release(job, receipts))

    return story


def uses_of_which_one_is_revoked(times: int, *, first: bool) -> Story:
    """Three uses are agreed; what was completed of a job counts until the job is revoked."""

    def story(world: World) -> None:
        provider = world.providers[0]
        granted = [world.granted_job() for _ in range(times)]
        (job, grants), *others = granted
        # Computed before, and receipted before or after.
        receipt = world.receipt(provider, job, grants[0])
        steps: list[Statement] = [receipt, world.revoke(world.operator, job)]
        for step in steps[::-1] if first else steps:
            world.put(step)
        for other, given in others:
            world.insecure_put(world.receipt(provider, other, given[0]))

    return story


def key_revoked_by(who: str) -> Story:
    def story(world: World) -> None:
        issuer = world.operator if who == "operator" else world.providers[1]
        world.insecure_put(world.revoke(issuer, world.providers[0].id))

    return story
