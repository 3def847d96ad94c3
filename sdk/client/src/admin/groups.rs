//! Consumer groups, as those see them who are no members.

use millstream_protocol::error::WireError;
use millstream_protocol::ids::{GroupName, Offset, TopicPartition};
use millstream_protocol::message::group::{
    CommitOffsets, DeleteGroup, DescribeGroup, FetchOffsets, GroupDescription, GroupOffset,
    GroupSummary, ListGroups, OffsetCommit, ResetOffsets,
};

use super::Admin;
use crate::error::ClientError;

impl Admin {
    /// Every group.
    ///
    /// # Errors
    /// As [`Client::call`](crate::Client::call).
    pub async fn list_groups(&self) -> Result<Vec<GroupSummary>, ClientError> {
        self.client.call(ListGroups { here: false }).await
    }

    /// One group, its members and its offsets.
    ///
    /// # Errors
    /// There is no such group, or as [`Client::call`](crate::Client::call).
    pub async fn describe_group(&self, group: &str) -> Result<GroupDescription, ClientError> {
        let group = GroupName::new(group)?;
        self.client.call_of_group(&group, DescribeGroup { group: group.clone() }).await
    }

    /// What a group has committed.
    ///
    /// # Errors
    /// There is no such group, or as [`Client::call`](crate::Client::call).
    pub async fn group_offsets(&self, group: &str) -> Result<Vec<GroupOffset>, ClientError> {
        let group = GroupName::new(group)?;
        let call = FetchOffsets { group: group.clone(), partitions: None };
        Ok(self.client.call_of_group(&group, call).await?.offsets)
    }

    /// Commits offsets of a group without members: for a program that shares out partitions by itself. They never go
    /// back. Returns those that were refused, and why.
    ///
    /// # Errors
    /// The group has members, or as [`Client::call`](crate::Client::call).
    pub async fn commit_offsets(
        &self,
        group: &str,
        offsets: Vec<OffsetCommit>,
    ) -> Result<Vec<(TopicPartition, WireError)>, ClientError> {
        let group = GroupName::new(group)?;
        let call = CommitOffsets { group: group.clone(), member: None, offsets };
        Ok(self.client.call_of_group(&group, call).await?.refused)
    }

    /// Sets a group's offsets, forward or backward. The group must have no members.
    ///
    /// # Errors
    /// The group has members, there is no such partition, or as [`Client::call`](crate::Client::call).
    pub async fn reset_group(
        &self,
        group: &str,
        offsets: Vec<(TopicPartition, Offset)>,
    ) -> Result<(), ClientError> {
        let group = GroupName::new(group)?;
        self.client.call_of_group(&group, ResetOffsets { group: group.clone(), offsets }).await
    }

    /// Deletes a group that has no members, and its offsets.
    ///
    /// # Errors
    /// The group has members or is not there, or as [`Client::call`](crate::Client::call).
    pub async fn delete_group(&self, group: &str) -> Result<(), ClientError> {
        let group = GroupName::new(group)?;
        self.client.call_of_group(&group, DeleteGroup { group: group.clone() }).await
    }
}
