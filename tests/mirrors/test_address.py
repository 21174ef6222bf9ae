"""Where a mirror that joins by itself may be."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soup.core.errors import AddressRefused
from soup.mirrors.address import Reach, judge, reach

PUBLIC = [
    "1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.1", "172.32.0.1", "223.255.255.255", "2606:4700::1111",
    "2a00:1450::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1",
]  # fmt: skip
PRIVATE = [
    "127.0.0.1", "127.255.255.255", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1",
    "100.127.255.255", "::1", "fd12:3456::1", "fc00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
    "64:ff9b::192.168.1.1", "2002:a00:1::", "::7f00:1",
]  # fmt: skip
NEVER = [
    "169.254.169.254", "169.254.0.1", "0.0.0.0", "0.1.2.3", "224.0.0.1", "239.1.1.1", "240.0.0.1",  # noqa: S104
    "255.255.255.255", "192.0.0.192", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1",
    "100.100.100.200", "168.63.129.16", "::", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1",
    "fd00:ec2::254", "fd20:ce::254", "2001:db8::1", "3fff::1", "100::1", "4000::1", "::ffff:169.254.169.254",
    "::ffff:0.0.0.0", "64:ff9b::169.254.169.254", "64:ff9b:1::a9fe:a9fe", "2002:a9fe:a9fe::1",
    "::a9fe:a9fe", "2001:0:a9fe:a9fe::1", "fd00:42::42",
]  # fmt: skip


@pytest.mark.row("S33")
@pytest.mark.parametrize(
    ("expected", "address"),
    [(expected, one) for expected, some in zip(Reach, (PUBLIC, PRIVATE, NEVER), strict=True) for one in some],
)
def test_an_address(expected: Reach, address: str) -> None:
    """
    Everybody reaches some, some reach some, and some are no mirror's; those inside of IPv6 count.
    """
    assert expected is reach(address)


@given(st.ip_addresses(v=4))
def test_an_address_inside_of_another(address: IPv4Address) -> None:
    """
    Whatever form it is written in, it leads to the same place.
    """
    number = int(address)
    forms = [0xFFFF << 32 | number, 0x64FF9B << 96 | number, 0x2002 << 112 | number << 80]

    assert {reach(str(address))} == {reach(str(IPv6Address(form))) for form in forms}


@given(st.ip_addresses())
def test_any_address(address: IPv4Address | IPv6Address) -> None:
    """
    What everybody reaches is nothing that this machine or its network keeps to itself.
    """
    kept = (
        address.is_loopback,
        address.is_link_local,
        address.is_multicast,
        address.is_unspecified,
        address.version == 4 and address.is_reserved,  # of IPv6 also what has an address of IPv4 inside
    )

    assert reach(str(address)) is not Reach.PUBLIC or not any(kept)


def test_all_addresses_of_a_name() -> None:
    """
    One that is wrong among many is enough, and it is named.
    """
    judge(["1.1.1.1", "2606:4700::1111"], private=False)
    judge(["1.1.1.1", "10.0.0.1", "::1"], private=True)
    with pytest.raises(AddressRefused, match=r"10\.0\.0\.1 is private, and cdn\.join\.allow_private is off"):
        judge(["1.1.1.1", "10.0.0.1"], private=False)

    with pytest.raises(AddressRefused, match=r"no mirror that joins may be at 169\.254\.169\.254"):
        judge(["1.1.1.1", "169.254.169.254"], private=True)
