//! One connection to a broker, in either version of the protocol. It is used once: what was not acknowledged when it breaks
//! is handed back, and the next connection is a new one.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::mqttbytes::QoS as Qos3;
use rumqttc::v5::mqttbytes::QoS as Qos5;
use rumqttc::v5::mqttbytes::v5 as packets5;
use rumqttc::{AsyncClient, Event, EventLoop, Outgoing, Packet, StateError, Transport, v5};
use rustls::ClientConfig;
use tokio::time::timeout;

use super::outbox::Message;
use super::{BrokerSettings, Version};

/// A connection on which nothing is said for so long is looked after, where somebody waits for what is said.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// How long a broker may take to answer at first.
const CONNECTING: u64 = 10;
/// So many times in a row nothing at all may come of a connection when it is looked after.
const STALLED: u32 = 3;
/// The largest message that is taken: the index of a box with many cameras; commands are short.
const LARGEST_IN: usize = 1 << 20;
/// The largest message that is sent: pictures are far smaller.
const LARGEST_OUT: usize = 16 << 20;
/// Messages on their way that were not acknowledged.
const IN_FLIGHT: u16 = 16;
/// Messages that the connection takes in advance.
const AHEAD: usize = 4;
/// How long the broker keeps commands for a client that is away; version 3.1.1 cannot say.
const SESSION: u32 = 3600;

/// How a connection is made.
#[derive(Clone, Debug)]
pub(super) struct Hello {
    pub client_id: String,
    /// What the broker says of the client when it ends uncleanly.
    pub will: Option<Message>,
    /// Whether the broker keeps commands for this client while it is away.
    pub keep: bool,
    /// After what silence the connection is looked after.
    pub keep_alive: Duration,
}

/// Why a connection has ended, or never was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LinkError {
    /// The broker, or what else listens there, does not want this client.
    #[error("{0}")]
    Refused(String),
    /// A message has come that is too large to be a command.
    #[error("a message of {0} bytes has come, and no more than {LARGEST_IN} are taken")]
    TooLarge(usize),
    /// It is not there, or has gone.
    #[error("{0}")]
    Lost(String),
}

/// What comes of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrived {
    /// It stands; a larger message than this is not taken, where the broker says so.
    Connected { largest: Option<usize> },
    /// A message; `retained` where the broker had kept it.
    Message {
        topic: String,
        payload: Vec<u8>,
        retained: bool,
    },
    /// Whether all that was asked for was granted.
    Subscribed(bool),
    /// A message was handed to the network.
    Sent,
    /// One was acknowledged; `granted` unless the broker says that it drops it.
    Acknowledged { granted: bool },
    /// The goodbye was handed to the network.
    Closed,
    /// What is of no interest here.
    Other,
}

/// The half that sends.
#[derive(Clone)]
pub(super) enum Sender {
    V3(AsyncClient),
    V5(v5::AsyncClient),
}

/// The half that receives, and drives both.
pub(super) struct Receiver {
    events: Events,
    /// How long nothing at all may come.
    stalled: Duration,
}

enum Events {
    V3(Box<EventLoop>),
    V5(Box<v5::EventLoop>),
}

/// A connection that is made once its receiver is asked for what comes.
pub(super) fn link(
    settings: &BrokerSettings,
    tls: Option<&Arc<ClientConfig>>,
    hello: Hello,
) -> (Sender, Receiver) {
    let (host, port) = (settings.address.host(), settings.address.port());
    let stalled = STALLED * hello.keep_alive;
    let transport = match tls {
        Some(config) => Transport::tls_with_config((**config).clone().into()),
        None => Transport::tcp(),
    };
    let (sender, events) = match settings.version {
        Version::V3 => {
            let mut options = rumqttc::MqttOptions::new(hello.client_id, host, port);
            options
                .set_transport(transport)
                .set_keep_alive(hello.keep_alive)
                .set_clean_session(!hello.keep)
                .set_max_packet_size(LARGEST_IN, LARGEST_OUT)
                .set_inflight(IN_FLIGHT);
            if let Some(login) = &settings.login {
                options.set_credentials(&login.user, &login.password);
            }
            if let Some(will) = hello.will {
                let Message {
                    topic,
                    payload,
                    retain,
                } = will;
                options.set_last_will(rumqttc::LastWill::new(
                    topic,
                    payload,
                    Qos3::AtLeastOnce,
                    retain,
                ));
            }
            let (client, mut events) = AsyncClient::new(options, AHEAD);
            let mut network = events.network_options();
            network.set_connection_timeout(CONNECTING);
            events.set_network_options(network);
            (Sender::V3(client), Events::V3(Box::new(events)))
        }
        Version::V5 => {
            let mut options = v5::MqttOptions::new(hello.client_id, host, port);
            options
                .set_transport(transport)
                .set_keep_alive(hello.keep_alive)
                .set_clean_start(!hello.keep)
                .set_session_expiry_interval(hello.keep.then_some(SESSION))
                .set_max_packet_size(Some(LARGEST_IN as u32))
                .set_connection_timeout(CONNECTING)
                .set_outgoing_inflight_upper_limit(IN_FLIGHT);
            if let Some(login) = &settings.login {
                options.set_credentials(&login.user, &login.password);
            }
            if let Some(will) = hello.will {
                let Message {
                    topic,
                    payload,
                    retain,
                } = will;
                let qos = Qos5::AtLeastOnce;
                options.set_last_will(packets5::LastWill::new(topic, payload, qos, retain, None));
            }
            let (client, events) = v5::AsyncClient::new(options, AHEAD);
            (Sender::V5(client), Events::V5(Box::new(events)))
        }
    };
    (sender, Receiver { events, stalled })
}

impl Sender {
    /// Sends a message, at least once; waits while many are on their way.
    ///
    /// # Errors
    /// If the connection has ended.
    pub async fn publish(&self, message: Message) -> Result<(), Ended> {
        let Message {
            topic,
            payload,
            retain,
        } = message;
        match self {
            Sender::V3(client) => {
                let sent = client.publish(topic, Qos3::AtLeastOnce, retain, payload);
                sent.await.map_err(|_| Ended)
            }
            Sender::V5(client) => {
                let sent = client.publish(topic, Qos5::AtLeastOnce, retain, payload);
                sent.await.map_err(|_| Ended)
            }
        }
    }

    /// Asks for the messages of these topics.
    ///
    /// # Errors
    /// If the connection has ended.
    pub async fn subscribe(&self, topics: &[String]) -> Result<(), Ended> {
        match self {
            Sender::V3(client) => {
                let filter = |topic: &String| {
                    rumqttc::SubscribeFilter::new(topic.clone(), Qos3::AtLeastOnce)
                };
                let sent = client.subscribe_many(topics.iter().map(filter));
                sent.await.map_err(|_| Ended)
            }
            Sender::V5(client) => {
                let filter =
                    |topic: &String| packets5::Filter::new(topic.clone(), Qos5::AtLeastOnce);
                let sent = client.subscribe_many(topics.iter().map(filter));
                sent.await.map_err(|_| Ended)
            }
        }
    }

    /// Says goodbye: the broker then keeps the last will to itself.
    ///
    /// # Errors
    /// If the connection has ended.
    pub async fn close(&self) -> Result<(), Ended> {
        match self {
            Sender::V3(client) => client.disconnect().await.map_err(|_| Ended),
            Sender::V5(client) => client.disconnect().await.map_err(|_| Ended),
        }
    }
}

/// The connection has ended; its receiver says why.
#[derive(Debug)]
pub(super) struct Ended;

impl Receiver {
    /// Waits for what comes next.
    ///
    /// # Errors
    /// If the connection cannot be made, or has ended.
    pub async fn next(&mut self) -> Result<Arrived, LinkError> {
        let silent = || LinkError::Lost("it no longer answers".into());
        match &mut self.events {
            Events::V3(events) => match timeout(self.stalled, events.poll()).await {
                Ok(Ok(event)) => Ok(arrived3(event)),
                Ok(Err(error)) => Err(error3(error)),
                Err(_) => Err(silent()),
            },
            Events::V5(events) => match timeout(self.stalled, events.poll()).await {
                Ok(Ok(event)) => Ok(arrived5(event)),
                Ok(Err(error)) => Err(error5(error)),
                Err(_) => Err(silent()),
            },
        }
    }

    /// What was not acknowledged, oldest first.
    pub fn unsent(self) -> Vec<Message> {
        match self.events {
            Events::V3(mut events) => {
                events.clean();
                let pending = events.pending.into_iter();
                let unsent = pending.filter_map(|request| match request {
                    rumqttc::Request::Publish(publish) => Some(Message {
                        topic: publish.topic,
                        payload: publish.payload.to_vec(),
                        retain: publish.retain,
                    }),
                    _ => None,
                });
                unsent.collect()
            }
            Events::V5(mut events) => {
                events.clean();
                let pending = events.pending.into_iter();
                let unsent = pending.filter_map(|request| match request {
                    v5::Request::Publish(publish) => Some(Message {
                        topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                        payload: publish.payload.to_vec(),
                        retain: publish.retain,
                    }),
                    _ => None,
                });
                unsent.collect()
            }
        }
    }
}

fn arrived3(event: Event) -> Arrived {
    match event {
        Event::Incoming(Packet::ConnAck(_)) => Arrived::Connected { largest: None },
        Event::Incoming(Packet::Publish(publish)) => Arrived::Message {
            topic: publish.topic,
            payload: publish.payload.to_vec(),
            retained: publish.retain,
        },
        Event::Incoming(Packet::SubAck(ack)) => {
            let granted = |code: &rumqttc::SubscribeReasonCode| {
                matches!(code, rumqttc::SubscribeReasonCode::Success(_))
            };
            Arrived::Subscribed(ack.return_codes.iter().all(granted))
        }
        Event::Incoming(Packet::PubAck(_)) => Arrived::Acknowledged { granted: true },
        Event::Outgoing(Outgoing::Publish(_)) => Arrived::Sent,
        Event::Outgoing(Outgoing::Disconnect) => Arrived::Closed,
        _ => Arrived::Other,
    }
}

fn arrived5(event: v5::Event) -> Arrived {
    use packets5::{Packet, PubAckReason, SubscribeReasonCode};
    match event {
        v5::Event::Incoming(Packet::ConnAck(ack)) => Arrived::Connected {
            largest: ack
                .properties
                .and_then(|known| known.max_packet_size)
                .map(|largest| largest as usize),
        },
        v5::Event::Incoming(Packet::Publish(publish)) => Arrived::Message {
            topic: String::from_utf8_lossy(&publish.topic).into_owned(),
            payload: publish.payload.to_vec(),
            retained: publish.retain,
        },
        v5::Event::Incoming(Packet::SubAck(ack)) => {
            let granted =
                |code: &SubscribeReasonCode| matches!(code, SubscribeReasonCode::Success(_));
            Arrived::Subscribed(ack.return_codes.iter().all(granted))
        }
        v5::Event::Incoming(Packet::PubAck(ack)) => Arrived::Acknowledged {
            granted: matches!(
                ack.reason,
                PubAckReason::Success | PubAckReason::NoMatchingSubscribers
            ),
        },
        v5::Event::Outgoing(Outgoing::Publish(_)) => Arrived::Sent,
        v5::Event::Outgoing(Outgoing::Disconnect) => Arrived::Closed,
        _ => Arrived::Other,
    }
}

const SILENT: &str = "it does not answer";
pub(super) const CLOSED: &str = "it closed the connection";
const LOGIN: &str = "it refuses the user or the password";
const FORBIDDEN: &str = "it does not let this client in";

fn error3(error: rumqttc::ConnectionError) -> LinkError {
    use rumqttc::{ConnectReturnCode, ConnectionError, mqttbytes};
    match error {
        ConnectionError::Io(error) => of_network(&error),
        ConnectionError::Tls(error) => of_tls(&error),
        ConnectionError::NetworkTimeout | ConnectionError::FlushTimeout => {
            LinkError::Lost(SILENT.into())
        }
        ConnectionError::ConnectionRefused(code) => LinkError::Refused(match code {
            ConnectReturnCode::BadUserNamePassword => LOGIN.into(),
            ConnectReturnCode::NotAuthorized => format!("{LOGIN}, or {FORBIDDEN}"),
            ConnectReturnCode::RefusedProtocolVersion => "it does not speak MQTT 3.1.1".into(),
            ConnectReturnCode::ServiceUnavailable => "it says that it is not available".into(),
            code => format!("it refuses this client ({code:?})"),
        }),
        ConnectionError::MqttState(StateError::Deserialization(error)) => match error {
            mqttbytes::Error::PayloadSizeLimitExceeded(bytes) => LinkError::TooLarge(bytes),
            mqttbytes::Error::Io(error) => of_network(&error),
            error => LinkError::Refused(format!("it does not speak MQTT as it should ({error})")),
        },
        ConnectionError::MqttState(StateError::Io(error)) => of_network(&error),
        ConnectionError::MqttState(StateError::ConnectionAborted) => LinkError::Lost(CLOSED.into()),
        ConnectionError::MqttState(StateError::AwaitPingResp) => {
            LinkError::Lost("it no longer answers".into())
        }
        error => LinkError::Refused(format!("it does not speak MQTT as it should ({error})")),
    }
}

fn error5(error: v5::ConnectionError) -> LinkError {
    use packets5::{ConnectReturnCode, DisconnectReasonCode};
    use v5::{ConnectionError, StateError, mqttbytes};
    match error {
        ConnectionError::Io(error) => of_network(&error),
        ConnectionError::Tls(error) => of_tls(&error),
        ConnectionError::Timeout(_) => LinkError::Lost(SILENT.into()),
        ConnectionError::ConnectionRefused(code) => LinkError::Refused(match code {
            ConnectReturnCode::BadUserNamePassword => LOGIN.into(),
            ConnectReturnCode::NotAuthorized => format!("{LOGIN}, or {FORBIDDEN}"),
            ConnectReturnCode::RefusedProtocolVersion
            | ConnectReturnCode::UnsupportedProtocolVersion => {
                "it does not speak MQTT 5; say version 3".into()
            }
            code => format!("it refuses this client ({code:?})"),
        }),
        ConnectionError::MqttState(StateError::Deserialization(error)) => match error {
            mqttbytes::Error::PayloadSizeLimitExceeded { pkt_size, .. } => {
                LinkError::TooLarge(pkt_size)
            }
            mqttbytes::Error::Io(error) => of_network(&error),
            error => LinkError::Refused(format!("it does not speak MQTT 5 as it should ({error})")),
        },
        ConnectionError::MqttState(StateError::Io(error)) => of_network(&error),
        ConnectionError::MqttState(StateError::ConnectionAborted) => LinkError::Lost(CLOSED.into()),
        ConnectionError::MqttState(StateError::AwaitPingResp) => {
            LinkError::Lost("it no longer answers".into())
        }
        ConnectionError::MqttState(StateError::ServerDisconnect {
            reason_code: DisconnectReasonCode::ServerShuttingDown,
            ..
        }) => LinkError::Lost("it shuts down".into()),
        ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, .. }) => {
            LinkError::Lost(format!("{CLOSED} ({reason_code:?})"))
        }
        error => LinkError::Refused(format!("it does not speak MQTT 5 as it should ({error})")),
    }
}

fn of_network(error: &io::Error) -> LinkError {
    // In TLS 1.3 a client learns after the handshake that its certificate is wanted, or not taken.
    if let Some(error) = error.get_ref().and_then(|of| of.downcast_ref()) {
        return of_handshake(error);
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => LinkError::Lost("nothing listens there".into()),
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => LinkError::Lost(CLOSED.into()),
        io::ErrorKind::TimedOut => LinkError::Lost(SILENT.into()),
        io::ErrorKind::InvalidData => LinkError::Refused(error.to_string()),
        // What tokio calls a stream that ends within a packet.
        io::ErrorKind::Other if error.to_string().contains("bytes remaining") => {
            LinkError::Lost(format!("{CLOSED} in the middle of an MQTT message"))
        }
        _ => LinkError::Lost(error.to_string()),
    }
}

fn of_tls(error: &rumqttc::TlsError) -> LinkError {
    match error {
        rumqttc::TlsError::Io(error) => match of_network(error) {
            LinkError::Lost(reason) if reason == CLOSED => LinkError::Refused(format!(
                "{CLOSED} that was to be encrypted: perhaps it speaks no TLS on that port"
            )),
            other => other,
        },
        rumqttc::TlsError::TLS(error) => of_handshake(error),
        error => LinkError::Refused(format!("no encrypted connection comes about ({error})")),
    }
}

fn of_handshake(error: &rustls::Error) -> LinkError {
    use rustls::{CertificateError, Error};
    LinkError::Refused(match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "no authority that is trusted here vouches for its certificate".into()
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "its certificate is for another name".into(),
        Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "its certificate has expired, or this box's clock is wrong".into(),
        Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => "its certificate is not valid yet: this box's clock is behind".into(),
        Error::InvalidMessage(_) => "it speaks no TLS on that port".into(),
        Error::AlertReceived(alert) => {
            format!(
                "it refuses the encrypted connection ({alert:?}): it may want a client's certificate"
            )
        }
        error => format!("no encrypted connection comes about ({error})"),
    })
}
