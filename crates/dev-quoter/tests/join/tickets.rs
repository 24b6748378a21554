//! Launch tickets: without one nobody but a member gets as far as a challenge, and what strangers do touches no member.

use std::time::Duration;

use appraisal::Code;

use crate::mesh::Mesh;

#[tokio::test]
async fn a_ticket_is_for_one_instance() {
    let mesh = Mesh::new().await;
    let mut cut = mesh.ticket("vrf", "0");
    cut.pop();
    for ticket in [Vec::new(), cut, mesh.ticket("vrf", "1"), mesh.ticket("oracle", "0"), vec![0; 40]] {
        let refused = mesh.applicant("0").ticket(ticket).challenge().await.unwrap_err();
        assert_eq!(refused.code, Code::TicketInvalid);
    }
    // The same at the join, for whoever has a challenge with a ticket of its own.
    for ticket in [Vec::new(), mesh.ticket("vrf", "1"), mesh.ticket("oracle", "0")] {
        let refused = mesh.applicant("0").claiming(move |claims| claims.ticket = ticket).refused().await;
        assert_eq!(refused, Code::TicketInvalid);
    }
}

#[tokio::test]
async fn a_ticket_is_good_for_120_seconds() {
    let mesh = Mesh::new().await;
    let ticket = mesh.ticket("vrf", "0");
    mesh.clock.forward(Duration::from_secs(120));
    mesh.applicant("0").ticket(ticket.clone()).challenge().await.unwrap();
    mesh.clock.forward(Duration::from_secs(1));
    let late = mesh.applicant("0").ticket(ticket).challenge().await.unwrap_err();
    assert_eq!(late.code, Code::TicketInvalid);
    // It ends between the challenge and the join, while the nonce is good.
    let ticket = mesh.ticket("vrf", "0");
    mesh.clock.forward(Duration::from_secs(60));
    let late = mesh.applicant("0").ticket(ticket).hesitating(Duration::from_secs(61)).refused().await;
    assert_eq!(late, Code::TicketInvalid);
}

#[tokio::test]
async fn a_ticket_is_good_for_one_join() {
    let mesh = Mesh::new().await;
    let ticket = mesh.ticket("vrf", "0");
    let first = mesh.applicant("0").ticket(ticket.clone()).prepare().await.unwrap();
    let second = mesh.applicant("0").ticket(ticket.clone()).prepare().await.unwrap();
    first.show(&mesh.authority).await.unwrap();
    assert_eq!(second.show(&mesh.authority).await.unwrap_err().code, Code::TicketInvalid);
    let third = mesh.applicant("0").ticket(ticket).challenge().await.unwrap_err();
    assert_eq!(third.code, Code::TicketInvalid);
}

#[tokio::test]
async fn a_ticket_is_used_up_by_a_join_that_is_refused() {
    let mesh = Mesh::new().await;
    let ticket = mesh.ticket("vrf", "0");
    let other_code = mesh.applicant("0").ticket(ticket.clone()).running([9; 32]).refused().await;
    assert_eq!(other_code, Code::ReleaseNotAllowed);
    assert_eq!(mesh.applicant("0").ticket(ticket).refused().await, Code::TicketInvalid);
}

#[tokio::test]
async fn whoever_has_a_ticket_is_pending_until_it_has_joined() {
    let mesh = Mesh::new().await;
    assert_eq!(mesh.stands("0"), Ok("unknown"));
    let ticket = mesh.ticket("vrf", "0");
    assert_eq!(mesh.stands("0"), Ok("pending"));
    mesh.applicant("0").ticket(ticket).joined().await;
    assert_eq!(mesh.stands("0"), Ok("valid"));
    mesh.applicant("1").running([9; 32]).refused().await;
    assert_eq!(mesh.stands("1"), Err(Code::ReleaseNotAllowed));
    // Until it is admitted, the last refusal says more than that it may try again.
    mesh.ticket("vrf", "1");
    assert_eq!(mesh.stands("1"), Err(Code::ReleaseNotAllowed));
    mesh.applicant("1").joined().await;
    assert_eq!(mesh.stands("1"), Ok("valid"));
}

#[tokio::test]
async fn a_strangers_join_for_a_live_instance_is_refused_and_leaves_it_as_it_stands() {
    let mesh = Mesh::new().await;
    let live = mesh.applicant("0").joined().await;
    let stood = mesh.standing("0");
    let (records, lines) = (mesh.records("vrf/0").await, mesh.audit().len());
    let used = live.sent.claims.ticket.clone();
    for ticket in [Vec::new(), used, mesh.ticket("vrf", "1"), vec![0; 40]] {
        let stranger = mesh.applicant("0").ticket(ticket).running([9; 32]);
        assert_eq!(stranger.refused().await, Code::TicketInvalid);
    }
    // It has a ticket and a challenge for another instance.
    let stranger = mesh.applicant("1").claiming(|claims| claims.instance = "0".into());
    assert_eq!(stranger.refused().await, Code::TicketInvalid);
    assert_eq!(mesh.standing("0"), stood);
    assert_eq!((mesh.records("vrf/0").await, mesh.audit().len()), (records, lines));
    mesh.applicant("0").known_by(&live.leaf).joined().await;
}
