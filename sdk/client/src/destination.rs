//! Whom a call is sent to: any broker, or the one that leads a partition.
//!
//! Invariant: a broker that has just failed a call is not asked again before the others were, and not
//! without a pause.

use millstream_protocol::ids::{PartitionIndex, TopicName};
use millstream_protocol::message::Request;
use millstream_transport::Connection;

use crate::client::Client;
use crate::error::ClientError;
use crate::finder::Place;
use crate::routes::Leader;
use crate::search::Search;

/// Where the attempts of one call go.
pub(crate) trait Destination: Send {
    /// A connection to the next broker, and who it is.
    fn connect(
        &mut self,
        client: &Client,
    ) -> impl Future<Output = Result<(String, Connection), ClientError>> + Send;

    /// The broker has refused, or failed to answer. Says whether the next can be asked at once.
    fn move_on(&mut self, client: &Client, failed: bool) -> impl Future<Output = bool> + Send;

    /// The broker has answered.
    fn answered(&mut self, client: &Client);
}

/// Any broker: the one that answered last, and then the others.
#[derive(Debug, Default)]
pub(crate) struct Anywhere {
    tried: Vec<String>,
    asked: Option<String>,
}

/// The broker that leads a partition; where nobody does, any, which says why.
#[derive(Debug)]
pub(crate) struct AtLeader<'a> {
    place: Place<'a>,
    search: Search,
    leader: Option<Leader>,
    otherwise: Anywhere,
}

impl Anywhere {
    /// These only if no other answers.
    pub(crate) fn but(brokers: &[String]) -> Self {
        Self { tried: brokers.to_vec(), asked: None }
    }

    /// The broker that was asked last.
    pub(crate) fn asked(&self) -> Option<&str> {
        self.asked.as_deref()
    }
}

impl Destination for Anywhere {
    async fn connect(&mut self, client: &Client) -> Result<(String, Connection), ClientError> {
        self.asked = None;
        match client.any_connection(&self.tried).await {
            Ok((broker, connection)) => {
                self.asked = Some(broker.clone());
                Ok((broker, connection))
            }
            Err(failed) => {
                self.tried.clear();
                Err(passing(failed))
            }
        }
    }

    async fn move_on(&mut self, client: &Client, failed: bool) -> bool {
        let Some(asked) = self.asked.take() else {
            return false;
        };
        if failed {
            client.brokers().failed(&asked);
        }
        let again = self.tried.contains(&asked);
        self.tried.push(asked);
        let others = !again && client.brokers().has_other_than(&self.tried);
        if !others {
            self.tried.clear();
        }
        others
    }

    fn answered(&mut self, client: &Client) {
        if let Some(asked) = &self.asked {
            client.brokers().answered(asked);
        }
    }
}

impl<'a> AtLeader<'a> {
    pub(crate) fn new(client: &Client, topic: &'a TopicName, partition: PartitionIndex) -> Self {
        let place = Place { topic, id: None, partition };
        let search = Search::new(client.config().backoff);
        Self { place, search, leader: None, otherwise: Anywhere::default() }
    }
}

impl Destination for AtLeader<'_> {
    async fn connect(&mut self, client: &Client) -> Result<(String, Connection), ClientError> {
        self.leader = None;
        let leader = match client.leader(self.place, &mut self.search).await {
            Ok(leader) => self.leader.insert(leader),
            Err(ClientError::NoLeader { .. }) => return self.otherwise.connect(client).await,
            Err(error) => return Err(error),
        };
        let silent = (client.config().silence, || true);
        let connecting = client.connection(&leader.address);
        let connected = client.while_leading(leader, silent, connecting).await;
        let connected = connected.unwrap_or_else(|| {
            let reason = "another broker leads now".to_owned();
            Err(ClientError::Unreachable { broker: leader.address.clone(), reason })
        });
        Ok((leader.address.clone(), connected?))
    }

    async fn move_on(&mut self, client: &Client, failed: bool) -> bool {
        match self.leader.take() {
            // The search pauses by itself.
            leader @ Some(_) => {
                self.search.failed(leader).await;
                true
            }
            None => self.otherwise.move_on(client, failed).await,
        }
    }

    fn answered(&mut self, client: &Client) {
        if self.leader.is_none() {
            self.otherwise.answered(client);
        }
    }
}

/// The partition whose leader alone can answer, if there is one.
pub(crate) const fn partition_of(request: &Request) -> Option<(&TopicName, PartitionIndex)> {
    match request {
        Request::ListOffsets(list) => match list.partition {
            Some(partition) => Some((&list.topic, partition)),
            None => Some((&list.topic, PartitionIndex(0))),
        },
        Request::FindEpochEnd(find) => Some((&find.topic, find.partition)),
        _ => None,
    }
}

/// Of several failures the one that says whether another attempt can help.
fn passing(mut failed: Vec<ClientError>) -> ClientError {
    let last = failed.len().checked_sub(1);
    let passes = failed.iter().rposition(ClientError::is_retriable);
    passes.or(last).map_or(ClientError::NoBrokers, |at| failed.swap_remove(at))
}
