//! Requests about consumer groups, a file each; `member` is a member's stream.

pub(super) mod delete;
pub(super) mod describe;
pub(super) mod find;
pub(super) mod list;
pub(super) mod member;
pub(super) mod offsets;
