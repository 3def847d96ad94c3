//! Every call of the table: its request, alone and as a stream's opening, and its answer come back.
//!
//! Invariant: a call of the table that is not tested here does not compile.

use millstream_protocol::error::WireError;
use millstream_protocol::message::{
    Call, Open, Request, cluster::*, group::*, job::*, module::*, offsets::*, peer::*, produce::*,
    topic::*, transaction::*,
};
use proptest::prelude::*;

use crate::check::{comes_back, damage};
use crate::strategies::{
    answer, cluster as c, group as g, job as j, list, module as m, peer as p, topic as t,
    transaction as x,
};

/// Holds the strategy of an answer against the type that the table names.
fn answers<C: Call>(
    response: impl Strategy<Value = C::Response>,
) -> impl Strategy<Value = Result<C::Response, WireError>>
where
    C::Response: std::fmt::Debug,
{
    answer(response)
}

macro_rules! calls {
    ($($test:ident: $call:ident($request:expr) -> $response:expr;)*) => {
        const _: fn(&Request) = |request| match request {
            $(Request::$call(_) => {})*
        };

        proptest! {
            #![proptest_config(ProptestConfig::with_cases(128))]
            $(
                #[test]
                fn $test(
                    request in $request, answer in answers::<$call>($response), damage in damage(),
                ) {
                    let request: $call = request;
                    comes_back(&request, &damage);
                    let request = Request::from(request);
                    prop_assert_eq!(request.name(), <$call as Call>::NAME);
                    comes_back(&request, &damage);
                    comes_back(&Open::Call(request), &damage);
                    if let Ok(response) = &answer {
                        comes_back(response, &damage);
                    }
                    comes_back(&answer, &damage);
                }
            )*
        }
    };
}

calls! {
    create_topic_comes_back: CreateTopic(t::create_topic()) -> t::topic_description();
    list_topics_comes_back: ListTopics(Just(ListTopics {})) -> list(t::topic_summary());
    describe_topic_comes_back: DescribeTopic(t::describe_topic()) -> t::topic_description();
    alter_topic_comes_back: AlterTopic(t::alter_topic()) -> t::topic_description();
    delete_topic_comes_back: DeleteTopic(t::delete_topic()) -> Just(());
    find_topic_comes_back: FindTopic(t::find_topic()) -> t::topic_routes();
    allocate_producer_comes_back:
        AllocateProducer(Just(AllocateProducer {})) -> c::producer_identity();
    list_offsets_comes_back: ListOffsets(c::list_offsets()) -> list(c::partition_offset());
    upload_module_comes_back: UploadModule(m::upload_module()) -> m::module_description();
    list_modules_comes_back: ListModules(Just(ListModules {})) -> list(m::module_description());
    describe_module_comes_back: DescribeModule(m::describe_module()) -> m::module_description();
    delete_module_comes_back: DeleteModule(m::delete_module()) -> Just(());
    deploy_job_comes_back: DeployJob(j::deploy_job()) -> j::job_description();
    list_jobs_comes_back: ListJobs(Just(ListJobs {})) -> list(j::job_summary());
    describe_job_comes_back: DescribeJob(j::describe_job()) -> j::job_description();
    set_job_state_comes_back: SetJobState(j::set_job_state()) -> j::job_description();
    update_job_comes_back: UpdateJob(j::update_job()) -> j::job_description();
    delete_job_comes_back: DeleteJob(j::delete_job()) -> Just(());
    job_logs_comes_back: JobLogs(j::job_logs()) -> j::job_log_page();
    cluster_status_comes_back: ClusterStatus(Just(ClusterStatus {})) -> c::cluster_description();
    find_epoch_end_comes_back: FindEpochEnd(c::find_epoch_end()) -> c::epoch_end();
    propose_comes_back: Propose(Just(Propose {})) -> Just(());
    join_cluster_comes_back: JoinCluster(p::join_cluster()) -> p::joined_cluster();
    partition_status_comes_back:
        PartitionStatus(p::partition_status()) -> list(t::partition_description());
    read_module_comes_back: ReadModule(p::read_module()) -> any::<Vec<u8>>();
    hand_over_comes_back: HandOver(p::hand_over()) -> Just(());
    move_partition_comes_back: MovePartition(c::move_partition()) -> Just(());
    drain_broker_comes_back: DrainBroker(c::drain_broker()) -> c::placement_plan();
    remove_broker_comes_back: RemoveBroker(c::remove_broker()) -> Just(());
    balance_cluster_comes_back: BalanceCluster(c::balance_cluster()) -> c::placement_plan();
    copy_module_comes_back: CopyModule(p::copy_module()) -> Just(());
    read_snapshot_comes_back: ReadSnapshot(p::read_snapshot()) -> p::snapshot_part();
    upgrade_cluster_comes_back: UpgradeCluster(c::upgrade_cluster()) -> any::<u32>();
    find_coordinator_comes_back: FindCoordinator(g::find_coordinator()) -> g::coordinator();
    commit_offsets_comes_back: CommitOffsets(g::commit_offsets()) -> g::offsets_committed();
    fetch_offsets_comes_back: FetchOffsets(g::fetch_offsets()) -> g::group_offsets();
    reset_offsets_comes_back: ResetOffsets(g::reset_offsets()) -> Just(());
    list_groups_comes_back: ListGroups(any::<bool>().prop_map(|here| ListGroups { here })) -> list(g::group_summary());
    describe_group_comes_back: DescribeGroup(g::describe_group()) -> g::group_description();
    delete_group_comes_back: DeleteGroup(g::delete_group()) -> Just(());
    find_transaction_coordinator_comes_back:
        FindTransactionCoordinator(x::find_coordinator()) -> g::coordinator();
    init_transactions_comes_back: InitTransactions(x::init()) -> c::producer_identity();
    add_to_transaction_comes_back: AddToTransaction(x::add()) -> Just(());
    end_transaction_comes_back: EndTransaction(x::end()) -> c::producer_identity();
    commit_offsets_in_transaction_comes_back:
        CommitOffsetsInTransaction(x::commit_offsets()) -> g::offsets_committed();
    list_transactions_comes_back: ListTransactions(x::list()) -> list(x::description());
    describe_transaction_comes_back: DescribeTransaction(x::describe()) -> x::description();
    abort_transaction_comes_back: AbortTransaction(x::abort()) -> Just(());
    write_markers_comes_back: WriteMarkers(x::write_markers()) -> x::markers_written();
    cleaned_to_comes_back: CleanedTo(p::cleaned_to()) -> p::cleaned();
    holds_transaction_comes_back: HoldsTransaction(x::holds()) -> any::<bool>();
}
