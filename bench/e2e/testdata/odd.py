#!/usr/bin/python3
"""Makes odd.pcap, the packets that TestMutations begins with, with scapy.

Clients are 10.1.0.2 and fd00:1::2, VIPs .100, servers .11 and .12 of 10.2.0.0/24
and fd00:2::/64; hardware addresses are put in by the test.
"""
from scapy.all import *
from scapy.layers.inet6 import *
from scapy.layers.sctp import *
from scapy.layers.ipsec import AH, ESP
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dns import DNS, DNSQR
from scapy.layers.l2 import ARP, GRE, Dot1Q, Dot1AD, Ether, STP, LLC

ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:0d")
C4, V4, S4 = "10.1.0.2", "10.1.0.100", "10.2.0.11"
C6, V6, S6 = "fd00:1::2", "fd00:1::100", "fd00:2::11"
SIP = (b"INVITE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 10.1.0.2;branch=z9hG4bK1\r\n"
       b"From: <sip:alice@example.com>;tag=1\r\nTo: <sip:bob@example.com>\r\nCall-ID: 4711@10.1.0.2\r\n"
       b"CSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n")

def bodies(src, dst, sport, dport):
    """Transport packets of one direction."""
    yield TCP(sport=sport, dport=dport, flags="S", options=[("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 0)), ("NOP", None), ("WScale", 7)])
    yield TCP(sport=sport, dport=dport, flags="PA", seq=1000, ack=2000) / (b"GET / HTTP/1.1\r\nHost: vip\r\n\r\n")
    yield TCP(sport=sport, dport=dport, flags="FA", seq=1, ack=1)
    yield TCP(sport=sport, dport=dport, flags="R")
    yield TCP(sport=sport, dport=21, flags="PA", seq=1, ack=1) / b"PORT 10,1,0,2,19,136\r\n"
    yield UDP(sport=sport, dport=dport) / DNS(rd=1, qd=DNSQR(qname="example.com"))
    yield UDP(sport=sport, dport=5060) / SIP
    yield UDP(sport=500, dport=500) / Raw(b"\0" * 28)
    yield UDP(sport=sport, dport=6080) / Raw(b"\0\4\0\0") / IP(src=dst if ":" not in dst else C4, dst=C4) / UDP(sport=53, dport=53)
    yield SCTP(sport=sport, dport=dport) / SCTPChunkInit(init_tag=1, a_rwnd=65535, n_out_streams=1, n_in_streams=1, init_tsn=1)
    yield SCTP(sport=sport, dport=dport, tag=1) / SCTPChunkData(data=b"hello", tsn=1)
    yield SCTP(sport=sport, dport=dport, tag=1) / SCTPChunkAbort()
    yield ESP(spi=1, seq=1, data=b"\0" * 40)
    yield AH(spi=1, seq=1, icv=b"\0" * 12) / TCP(sport=sport, dport=dport, flags="A")
    yield GRE() / (IP(src=C4, dst=V4) / TCP(sport=sport, dport=dport, flags="S"))

def both():
    for ip, c, v, s in ((lambda a, b, **k: IP(src=a, dst=b, **k), C4, V4, S4), (lambda a, b, **k: IPv6(src=a, dst=b), C6, V6, S6)):
        for b in bodies(c, v, 5000, 80):
            yield ip(c, v) / b
        for b in bodies(s, c, 8080, 5000):
            yield ip(s, c) / b
        request = ip(c, s) / TCP(sport=5000, dport=8080, flags="S")
        reply = ip(v, c) / TCP(sport=80, dport=5000, flags="SA")
        for quoted, a, b in ((request, s, c), (reply, c, v)):
            if ip(c, v).version == 4:
                for t, code in ((3, 1), (3, 3), (3, 4), (4, 0), (5, 1), (11, 0), (12, 0)):
                    yield ip(a, b) / ICMP(type=t, code=code, nexthopmtu=1280) / raw(quoted)
            else:
                yield ip(a, b) / ICMPv6DestUnreach(code=4) / raw(quoted)
                yield ip(a, b) / ICMPv6PacketTooBig(mtu=1280) / raw(quoted)
                yield ip(a, b) / ICMPv6TimeExceeded() / raw(quoted)
                yield ip(a, b) / ICMPv6ParamProblem() / raw(quoted)
        inner = ip(c, v) / TCP(sport=5000, dport=80, flags="S")
        yield IP(src=C4, dst=V4, proto=4 if inner.version == 4 else 41) / raw(inner)

def v4():
    yield IP(src=C4, dst=V4) / ICMP(type=8) / b"ping"
    yield IP(src=C4, dst=V4, ttl=1) / UDP(sport=5000, dport=53)
    yield IP(src=C4, dst=V4, options=[IPOption_RR(routers=["0.0.0.0"] * 3)]) / TCP(sport=5001, dport=80, flags="S")
    yield IP(src=C4, dst=V4, options=[IPOption_LSRR(routers=["192.0.2.1"])]) / TCP(sport=5001, dport=80, flags="S")
    yield IP(src=C4, dst=V4, options=[IPOption_Router_Alert()]) / UDP(sport=5001, dport=53)
    yield IP(src=C4, dst="224.0.0.1") / UDP(sport=5353, dport=5353)
    yield IP(src="0.0.0.0", dst="255.255.255.255") / UDP(sport=68, dport=67) / BOOTP() / DHCP(options=[("message-type", "discover"), "end"])
    for f in fragment(IP(src=C4, dst=V4, id=77) / UDP(sport=5002, dport=53) / Raw(b"x" * 3000), fragsize=1200):
        yield f
    for f in fragment(IP(src=S4, dst=C4, id=78) / UDP(sport=53, dport=5002) / Raw(b"y" * 3000), fragsize=1200):
        yield f

def v6():
    yield IPv6(src=C6, dst=V6) / ICMPv6EchoRequest(data=b"ping")
    yield IPv6(src=C6, dst="ff02::1:ff00:100", hlim=255) / ICMPv6ND_NS(tgt=V6) / ICMPv6NDOptSrcLLAddr()
    yield IPv6(src="::", dst="ff02::1:ff00:100", hlim=255) / ICMPv6ND_NS(tgt=V6)
    yield IPv6(src=C6, dst=V6) / IPv6ExtHdrHopByHop(options=[RouterAlert()]) / UDP(sport=5001, dport=53)
    yield IPv6(src=C6, dst=V6) / IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)]) / IPv6ExtHdrRouting(addresses=["fd00:1::9"]) / TCP(sport=5001, dport=80, flags="S")
    yield IPv6(src=C6, dst=V6) / IPv6ExtHdrFragment(id=5, m=1) / UDP(sport=5002, dport=53, len=3008, chksum=1) / Raw(b"x" * 1200)
    yield IPv6(src=C6, dst=V6) / IPv6ExtHdrFragment(id=5, offset=151, m=0) / Raw(b"x" * 1200)

frames = [ETHER / p for p in both()] + [ETHER / p for p in v4()] + [ETHER / p for p in v6()]
frames += [ETHER / Dot1Q(vlan=7) / p.payload for p in frames[::5]]
frames += [ETHER / Dot1AD(vlan=9) / Dot1Q(vlan=7) / p.payload for p in frames[::11]]
frames += [ETHER / ARP(op=1, psrc=C4, pdst=V4), ETHER / ARP(op=2, psrc=V4, pdst=C4), ETHER / ARP(op=1, psrc="0.0.0.0", pdst=V4)]
frames += [ETHER / LLC() / STP(), Ether(src=ETHER.src, dst=ETHER.dst, type=0x88cc) / Raw(b"\2\7\4" + b"\0" * 40)]
wrpcap("odd.pcap", [Ether(raw(f)) for f in frames], linktype=1)
print(len(frames), "packets")
