//! A broker in this process for the tests, whose front doors can be closed and opened again.

use ratatoskr_broker::{Broker, BrokerConfig};
use ratatoskr_client::{Client, NewMessage};
use ratatoskr_server::{Running, Server, ServerOptions};

/// A broker whose front doors can be closed and opened again.
pub(crate) struct House {
    pub(crate) broker: Broker,
    running: Option<Running>,
    options: ServerOptions,
    /// Goes with the house.
    folder: tempfile::TempDir,
}

impl House {
    pub(crate) fn open() -> House {
        let folder = tempfile::tempdir().unwrap();
        let broker = Broker::open(BrokerConfig::new(folder.path().join("data"))).unwrap();
        let any = "127.0.0.1:0".parse().unwrap();
        let mut options = ServerOptions { grpc: any, http: any, threads: 1, ..ServerOptions::default() };
        let running = Server::start(broker.clone(), options.clone()).unwrap();
        // From now on always the same door.
        options.grpc = running.grpc_addr();
        House { broker, running: Some(running), options, folder }
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.options.grpc.to_string()).await.unwrap()
    }

    pub(crate) async fn close_doors(&mut self) {
        self.running.take().unwrap().shutdown().await;
    }

    pub(crate) fn open_doors(&mut self) {
        self.running = Some(Server::start(self.broker.clone(), self.options.clone()).unwrap());
    }

    /// The broker itself ends and begins again.
    pub(crate) async fn restart(&mut self) {
        self.close_doors().await;
        self.broker.shutdown().unwrap();
        self.broker = Broker::open(BrokerConfig::new(self.folder.path().join("data"))).unwrap();
        self.open_doors();
    }
}

/// Messages whose payloads are numbers.
pub(crate) fn numbered(numbers: std::ops::Range<u64>) -> Vec<NewMessage> {
    numbers.map(|number| NewMessage::new(number.to_string())).collect()
}
