"""What the log says of the cluster."""

from __future__ import annotations

from structlog.testing import capture_logs

from resplock.raft import configurations
from resplock.server.news import News
from resplock.types import NodeId
from tests.raft.cluster import Cluster


def said(news: News) -> list[str]:
    with capture_logs() as lines:
        news.look()
        news.look()
    return [line["event"] for line in lines]


def test_it_says_who_leads_once() -> None:
    cluster = Cluster(3)
    one, two = News(cluster.core("n1")), News(cluster.core("n2"))
    assert said(one) == said(two) == []
    cluster.elect("n1")
    assert said(one) == ["this server leads"]
    assert said(two) == ["a leader is there"]


def test_it_says_how_the_server_stands() -> None:
    cluster = Cluster(2, learners=1)
    cluster.elect("n1")
    news = News(cluster.core("n3"))
    assert said(news) == [
        "this server is a learner: it is promoted once it has caught up",
        "a leader is there",
    ]
    leader = cluster.core("n1")
    leader.propose_configuration(configurations.with_voter(leader.configuration, NodeId("n3")))
    cluster.settle()
    assert said(news) == ["this server was promoted: it votes now"]
