//! The command line as a user meets it: what it prints, its exit codes, and what bad input gets.
