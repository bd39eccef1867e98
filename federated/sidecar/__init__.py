"""SPU beside Rongshu: a program in an environment of its own, for intersections of large sets."""
