"""Computing on numbers that three parties share: additions, products, signs, a logistic function.

Each number is the sum of three random components, and each party holds two of them
(`privacy.replicated.party`): no one party learns anything, and any two learn everything. The
parties follow the protocol.

    ring         arithmetic modulo 2^128 on arrays, exact, by the linear algebra of float64
    shared       what one party holds of an array, with a public bound on its numbers
    party        one of the three: dealing, products, truncations, opening, and the rounds
    comparison   which numbers are negative
    sigmoid      the logistic function as a polynomial with edges
"""
