//! Verdicts: the facts of one attempt to connect, held against the compiled policies.
