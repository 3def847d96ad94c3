//! Jobs: modules at work between topics.

use millstream_protocol::ids::{JobName, ModuleRef};
use millstream_protocol::message::job::{
    DeleteJob, DeployJob, DescribeJob, JobDescription, JobLimits, JobLogPage, JobLogs, JobSpec,
    JobState, JobSummary, ListJobs, SetJobState, UpdateJob,
};

use super::Admin;
use crate::error::ClientError;

impl Admin {
    /// Starts a job.
    ///
    /// # Errors
    /// As [`crate::Client::call`]; a job of that name may be there already.
    pub async fn deploy_job(&self, spec: JobSpec) -> Result<JobDescription, ClientError> {
        self.client.call(DeployJob { spec }).await
    }

    /// Lists the jobs.
    ///
    /// # Errors
    /// As [`crate::Client::call`].
    pub async fn list_jobs(&self) -> Result<Vec<JobSummary>, ClientError> {
        self.client.call(ListJobs {}).await
    }

    /// Describes a job, partition by partition.
    ///
    /// # Errors
    /// As [`crate::Client::call`].
    pub async fn describe_job(&self, name: &str) -> Result<JobDescription, ClientError> {
        self.client.call(DescribeJob { name: JobName::new(name)? }).await
    }

    /// Stops a job where it is.
    ///
    /// # Errors
    /// As [`crate::Client::call`].
    pub async fn pause_job(&self, name: &str) -> Result<JobDescription, ClientError> {
        let (name, state) = (JobName::new(name)?, JobState::Paused);
        self.client.call(SetJobState { name, state }).await
    }

    /// Lets a job go on from where it is; also restarts partitions that had stopped.
    ///
    /// # Errors
    /// As [`crate::Client::call`].
    pub async fn resume_job(&self, name: &str) -> Result<JobDescription, ClientError> {
        let (name, state) = (JobName::new(name)?, JobState::Running);
        self.client.call(SetJobState { name, state }).await
    }

    /// Changes a running job's module version or limits, at a batch boundary.
    ///
    /// # Errors
    /// As [`crate::Client::call`].
    pub async fn update_job(
        &self,
        name: &str,
        module: Option<ModuleRef>,
        limits: Option<JobLimits>,
    ) -> Result<JobDescription, ClientError> {
        self.client.call(UpdateJob { name: JobName::new(name)?, module, limits }).await
    }

    /// Deletes a job and its positions.
    ///
    /// # Errors
    /// As [`crate::Client::call`].
    pub async fn delete_job(&self, name: &str) -> Result<(), ClientError> {
        self.client.call(DeleteJob { name: JobName::new(name)? }).await
    }

    /// What the job's guests logged after the line with number `after`, at most `limit` lines.
    ///
    /// # Errors
    /// As [`crate::Client::call`].
    pub async fn job_logs(
        &self,
        name: &str,
        after: u64,
        limit: u32,
    ) -> Result<JobLogPage, ClientError> {
        self.client.call(JobLogs { name: JobName::new(name)?, after, limit }).await
    }
}
