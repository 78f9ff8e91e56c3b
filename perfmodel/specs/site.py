"""Where a machine stands and what it costs: site, prices, reliability (shared by clusters and scenarios)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from perfmodel.provenance import Sourced
from perfmodel.specs.base import SwitchField
from perfmodel.specs.quantities import (
    BandwidthField,
    DurationField,
    FractionField,
    MoneyField,
    PositiveFractionField,
    PowerField,
    Provenance,
    SpecModel,
    TimeField,
    quantity,
)


class SiteSpec(SpecModel):
    """Power and electricity of the place; a scenario's site wins over the cluster's, number by number."""

    pue: Annotated[Sourced, quantity("1", minimum=1.0, maximum=10.0)] | None = None
    electricity: Annotated[Sourced, quantity("USD/J")] | None = None
    grid: Annotated[Sourced, quantity("kg/J")] | None = None
    power_cap: PowerField | None = None
    rack_power: PowerField | None = None
    provenance: Provenance | None = None


class CloudPricing(SpecModel):
    """Rented devices.

    Attributes
    ----------
    device_hour
        Price of one device for one hour [USD].
    utilisation
        Fraction of the paid time that runs the job [1].
    includes_energy
        The rate already pays for the electricity.
    """

    kind: Literal["cloud"]
    device_hour: MoneyField
    utilisation: PositiveFractionField | None = None
    includes_energy: SwitchField = True
    provenance: Provenance | None = None


class PurchasePricing(SpecModel):
    """Bought devices, written off over their life.

    Attributes
    ----------
    device
        Price of one device with its share of host and network [USD].
    years
        Life over which the price is written off.
    interest
        Yearly interest on the unpaid part [1].
    operation
        Yearly cost of running a device besides electricity, as a fraction of its price [1].
    utilisation
        Fraction of the time that runs jobs [1].
    """

    kind: Literal["purchase"]
    device: MoneyField
    years: Annotated[Sourced, quantity("1", minimum=0.01)]
    interest: FractionField | None = None
    operation: FractionField | None = None
    utilisation: PositiveFractionField | None = None
    includes_energy: SwitchField = False
    provenance: Provenance | None = None


#: How devices are paid for; the key ``kind`` decides.
PricingSpec = Annotated[CloudPricing | PurchasePricing, Field(discriminator="kind")]


class ReliabilitySpec(SpecModel):
    """Failures and checkpoints; a scenario's numbers win over the cluster's.

    Attributes
    ----------
    device_mtbf
        Mean time between failures of one device with its share of the node [s].
    restart_time
        From a failure to the first new step, without the lost work [s].
    checkpoint_interval
        Time between checkpoints [s]; absent = the optimum of Young and Daly.
    checkpoint_bandwidth
        Of the whole job to storage [B/s].
    spare_fraction
        Spare devices over used devices [1].
    """

    device_mtbf: DurationField | None = None
    restart_time: TimeField | None = None
    checkpoint_interval: DurationField | None = None
    checkpoint_bandwidth: BandwidthField | None = None
    spare_fraction: FractionField | None = None
    provenance: Provenance | None = None
