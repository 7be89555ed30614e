//! Against tshark on the same files: no exchange that it finds is missing.
