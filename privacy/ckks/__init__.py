"""Computing on encrypted real numbers with CKKS: scores of a model, sums and moments of a column.

Cheon, Kim, Kim, Song, "Homomorphic Encryption for Arithmetic of Approximate Numbers", ASIACRYPT
2017, as implemented by Microsoft SEAL and handed to Python by TenSEAL.

Two roles. The **owner** holds the secret key and the rows; nobody else ever opens a ciphertext.
The **scorer** holds a model, or nothing but processor time, and works on what it cannot read.

    secret = SecretContext.generate(LINEAR)               # the owner's
    with Owner.start(secret) as owner:
        columns = owner.encrypt(rows, bounds)             # to_bytes() goes to the scorer
        with Scorer.start(secret.public) as scorer:       # elsewhere, from bytes and a digest
            scores = scorer.score(model, columns)
        print(owner.decrypt_scores(scores).values)

Everything that SEAL parses or computes happens in a child process with a memory limit
(`privacy.child`, `privacy.ckks.engine`): SEAL checks what it loads, but a crafted ciphertext that
it misses ends a child and not its parent.
"""
