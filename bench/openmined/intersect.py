"""Intersects two made-up sets by openmined-psi, in the environment that has it; prints one object.

Server and client in one process, as the library is used: raw masked sets, no Bloom filter or GCS,
and the client learns which of its names are in common.
"""

import json
import sys
import time

import private_set_intersection.python as psi


def main(count: int) -> None:
    """Intersect `count` names with `count` others, of which half are the same."""
    reveal = True  # which names are in common, not only how many
    client, server = psi.client.CreateWithNewKey(reveal), psi.server.CreateWithNewKey(reveal)
    asked = [f"name {number}" for number in range(count)]
    held = [f"name {number}" for number in range(count // 2, count + count // 2)]
    begun, used = time.perf_counter(), time.process_time()
    setup = server.CreateSetupMessage(1e-9, count, held, psi.DataStructure.RAW)
    reply = server.ProcessRequest(client.CreateRequest(asked))
    found = client.GetIntersection(setup, reply)
    seconds, used = time.perf_counter() - begun, time.process_time() - used
    print(json.dumps({"seconds": seconds, "processor": used, "size": len(found)}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
