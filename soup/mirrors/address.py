"""Where a mirror that joined by itself may be (D11). Pure.

Who joins names the address that soup itself will ask. So it has to be one that anybody could ask: not one of
the machine soup runs on, of the network it stands in, or of the service that tells a cloud's machines who
they are. What is in no list here is no place for a mirror either.
"""

from collections.abc import Iterable
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from soup.core.errors import AddressRefused


class Reach(IntEnum):
    """Who can reach an address: everybody, some, or nobody that is a mirror."""

    PUBLIC = 0
    PRIVATE = 1
    NEVER = 2


_PRIVATE4 = [
    IPv4Network(net)
    for net in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8")
]
_PRIVATE6 = [IPv6Network(net) for net in ("fc00::/7", "::1/128")]
# Services of clouds that tell a machine its secrets, where they are not link-local; what Python's newest
# tables have and older ones have not.
_NEVER4 = [
    IPv4Network(net) for net in ("100.100.100.200/32", "168.63.129.16/32", "192.0.0.0/24", "192.88.99.0/24")
]
_NEVER6 = [IPv6Network(net) for net in ("fd00:ec2::/32", "fd20:ce::/32", "fd00:42::42/128", "3fff::/20")]
_GLOBAL6 = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
_OLD4 = IPv6Network("::/96")  # IPv4 inside of IPv6 as it was once meant


def reach(text: str) -> Reach:
    """Who can reach an address. One that has others inside is as good as the worst of them."""
    address = ip_address(text)
    if isinstance(address, IPv4Address):
        return _reach4(address)
    inside = list(_inside(address))
    if inside:
        return max(map(_reach4, inside))
    if any(address in net for net in _NEVER6):
        return Reach.NEVER
    if any(address in net for net in _PRIVATE6):
        return Reach.PRIVATE
    return Reach.PUBLIC if address in _GLOBAL6 and not address.is_private else Reach.NEVER


def _reach4(address: IPv4Address) -> Reach:
    if any(address in net for net in _NEVER4):
        return Reach.NEVER
    if any(address in net for net in _PRIVATE4):
        return Reach.PRIVATE
    return Reach.NEVER if address.is_private or address.is_multicast or address.is_reserved else Reach.PUBLIC


def _inside(address: IPv6Address) -> Iterable[IPv4Address]:
    """The addresses of IPv4 that packets to this one end up at."""
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    elif address.sixtofour is not None:
        yield address.sixtofour
    elif address.teredo is not None:
        yield from address.teredo
    elif address in _NAT64 or (address in _OLD4 and int(address) > 1):
        yield IPv4Address(int(address) & 0xFFFF_FFFF)


def judge(addresses: Iterable[str], *, private: bool) -> None:
    """Raise AddressRefused where one of these is none for a mirror that joins. `private` ones may be."""
    for address in addresses:
        who = reach(address)
        if who is Reach.NEVER:
            raise AddressRefused(f"no mirror that joins may be at {address}")
        if who is Reach.PRIVATE and not private:
            raise AddressRefused(f"its address {address} is private, and cdn.join.allow_private is off")
