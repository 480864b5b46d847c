"""The way of a request's cache and recurrent state from workers that prefill to workers that decode: one law of its
time, for plans and for traffic.

The devices of a prefill worker's rank group send each part once; each device that decodes receives what it holds,
copies of heads among it. The slower side sets the time. Of two formats of the cache the narrower is sent, and whoever
has the wider one converts; the recurrent state has one format, whatever the length.
"""

from __future__ import annotations

import numpy as np

from mowich.arrays import Floats


def cache_transfer_s(cache: Floats | float, state: Floats | float, latency_s: Floats | float) -> Floats:
    """Seconds from the end of a prompt until what it left is where it decodes.

    T = latency_s + cache + state

    cache, state: of all tokens' cache, conversion among it, and of the recurrent state. Both go when the prompt is
    done: layers are not sent while later ones are computed.

    Units: cache s, state s, latency_s s.
    """
    return np.asarray(latency_s + cache + state)


def handed_s(
    sent_B: Floats | float,
    held_B: Floats | float,
    group: Floats | float,
    send_Bps: Floats | float,
    receive_Bps: Floats | float,
) -> Floats:
    """Seconds of bytes that a group of devices sends once and that each receiving device takes its part of.

    T = max(sent_B / (send_Bps * group), held_B / receive_Bps)

    sent_B: of the whole group; held_B: on one device that receives; group: devices that send; Bps: of a device.

    Units: sent_B B, held_B B, send_Bps B/s, receive_Bps B/s.
    """
    return np.asarray(np.maximum(sent_B / (send_Bps * group), held_B / receive_Bps))


def convert_s(sent_B: Floats, received_B: Floats, send_Bps: Floats, receive_Bps: Floats) -> Floats:
    """Seconds to read a cache in one format and write it in the other, by the devices that hold the wider one; 0 where
    the formats are the same.

    sent_B, received_B: bytes of the whole cache in either format, B; send_Bps, receive_Bps: rate of the memories of
    either group, B/s.
    """
    rate = np.where(np.asarray(received_B) > sent_B, receive_Bps, send_Bps)
    return np.where(np.asarray(sent_B) == received_B, 0.0, (sent_B + received_B) / rate)
