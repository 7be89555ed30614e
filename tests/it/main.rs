//! fedisniff's integration tests, one binary: whole captures against what the servers' logs say, text conversations,
//! the command line as a user meets it, real servers in network namespaces, and the rules of the house.

mod audit;
mod captures;
mod clsact;
mod cluster;
mod command;
mod conversations;
mod doctor;
mod hostile;
mod kernel;
mod lab;
mod netns;
mod policy;
mod recovery;
mod tidy;
mod tshark;
