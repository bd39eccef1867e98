"""The commands of operator, providers and researchers; one module for each word after `rongshu`."""
