//! Why: what the gateway would decide about a request, and what it has decided, in sentences with their lines in gateway.yaml.
//!
//! Nothing here decides. What would be decided [`rehearsal`] has from the pipeline itself; what was decided is in the access line that
//! [`mod@line`] reads.

pub mod bounded;
pub mod columns;
pub mod line;
pub mod living;
pub mod page;
pub mod reasons;
pub mod rehearsal;
pub mod running;
pub mod steps;
pub mod story;
pub mod verdict;
