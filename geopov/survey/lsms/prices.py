"""From the amount in a survey's file to consumption per person per day: the unit, the prices, the currency.

The chain, each step of which is recorded: an amount of a household, person or adult equivalent over a year, month, week
or day -> the same per person (or adult equivalent) per day -> nominal to real, divided by the deflator -> PPP USD,
divided by the PPP factor and by the rise in prices between its year and the survey's.

Deaton, A. & Zaidi, S. (2002). Guidelines for constructing consumption aggregates for welfare analysis. LSMS Working
Paper 135, World Bank.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, model_validator

from geopov.errors import SurveyError

Divisor = Literal["person", "adult_equivalent"]

Period = Literal["year", "month", "week", "day"] | Annotated[float, Field(gt=0)]
"""What an amount is of, or its length in days."""

# A month is a twelfth of a year, so that twelve monthly amounts are the yearly one.
DAYS = {"year": 365.0, "month": 365.0 / 12.0, "week": 7.0, "day": 1.0}


class Strict(BaseModel):
    """A part of an adapter: a key it does not know is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, coerce_numbers_to_str=True)


class Consumption(Strict):
    """The consumption aggregate: its column, and what one value of it is."""

    column: str
    of: Literal["household", "person", "adult_equivalent"]
    per: Period
    prices: Literal["nominal", "real"]
    """Real: already comparable between the survey's places and months. Nominal: not, unless there is a deflator."""
    period: str | None = None
    """Place and time whose prices real ones are, such as ``national, April 2019``."""
    currency: str = Field(pattern="^[A-Z]{3}$")
    """ISO 4217 code of the national currency."""


class Deflator(Strict):
    """The price index of a household's place and month: real = nominal / (index / base)."""

    column: str
    base: float = Field(default=100.0, gt=0)
    """What the index is where prices are those of the base: 100, or 1."""
    period: str
    """Place and time of the base, such as ``national, April 2019``."""


class Ppp(Strict):
    """How an amount in the survey's real prices becomes PPP USD: amount / (factor x cpi_ratio)."""

    factor: float = Field(gt=0)
    """National currency per PPP USD in ``year``, private consumption (International Comparison Program)."""
    year: int = Field(ge=1990, le=2100)
    """Reference year of the PPP: 2011, 2017, 2021."""
    cpi_ratio: float = Field(gt=0)
    """Consumer prices of the survey's base period over those of ``year``."""
    source: str = Field(min_length=1)
    """Where factor and ratio are published."""


class PovertyLine(Strict):
    """A line in the file's own unit: a column of the households, or one value for all."""

    column: str | None = None
    value: float | None = Field(default=None, gt=0)
    of: Divisor = "person"
    per: Period = "year"
    prices: Literal["nominal", "real"] = "real"
    """Real: in the same prices as real consumption. Nominal: in each household's own, and deflated with them."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.column is None) == (self.value is None):
            raise ValueError("give either column or value")
        return self


class PriceChain(Strict):
    """Consumption with what brings it to comparable prices; see the module."""

    consumption: Consumption
    deflator: Deflator | None = None
    ppp: Ppp | None = None

    @model_validator(mode="after")
    def _deflate_once(self) -> Self:
        if self.deflator is not None and self.consumption.prices == "real":
            raise ValueError("prices are real already; a deflator would deflate them twice")
        if self.consumption.period is not None and self.consumption.prices == "nominal":
            raise ValueError("nominal prices are of no one period; a deflator has the period")
        return self

    def column(self, divisor: Divisor) -> str:
        """Name of the households' column: ``consumption``, ``consumption_ae``, with the currency where no PPP is."""
        name = "consumption" if divisor == "person" else "consumption_ae"
        return name if self.ppp else f"{name}_{self.consumption.currency.lower()}"

    def unit(self, divisor: Divisor) -> str:
        """Unit of that column, in words."""
        money = f"{self.ppp.year} PPP USD" if self.ppp else self.consumption.currency
        who = "person" if divisor == "person" else "adult equivalent"
        return f"{money} per {who} per day, {self.prices} prices"

    @property
    def prices(self) -> str:
        """Nominal where there is no deflator, otherwise real, of which place and time."""
        period = self.deflator.period if self.deflator else self.consumption.period
        return f"real ({period})" if period else self.consumption.prices

    def daily(self, amount: pd.Series, divisor: Divisor, members: Mapping[str, pd.Series]) -> pd.Series:
        """The aggregate per person or adult equivalent per day, still in the prices of the file.

        Parameters
        ----------
        amount : Series
            The aggregate as in the file.
        divisor : str
            person or adult_equivalent.
        members : mapping
            person and adult_equivalent to the number of them in each household; NaN or not above zero gives NaN.
        """
        return per_day(amount, self.consumption.per) * ratio(self.consumption.of, divisor, members)

    def convert(self, daily: pd.Series, index: pd.Series | None, *, nominal: bool) -> pd.Series:
        """Daily amounts in comparable prices and the final currency.

        Parameters
        ----------
        daily : Series
            National currency per day.
        index : Series, optional
            The deflator of each household.
        nominal : bool
            Whether ``daily`` is in nominal prices; real ones are not deflated again.

        Raises
        ------
        SurveyError
            If the deflator of a household is not above zero.
        """
        real = daily
        if self.deflator is not None and index is not None and nominal:
            if (index <= 0).any():
                raise SurveyError(
                    f"the deflator {self.deflator.column!r} is not above zero for {int((index <= 0).sum())} rows. "
                    "If that means no answer, list the number under missing."
                )
            real = daily / (index / self.deflator.base)
        return real / (self.ppp.factor * self.ppp.cpi_ratio) if self.ppp else real

    def record(self) -> dict[str, Any]:
        """All of it, JSON-able, for the measures of the households: what was in the file and every step since."""
        has = self.consumption
        period = has.per if isinstance(has.per, str) else f"{has.per:g} days"
        steps = [f"{has.column}: {has.currency} per {has.of.replace('_', ' ')} per {period}, {has.prices} prices"]
        steps += [f"divided by {days(has.per):g} days"] if days(has.per) != 1 else []
        steps += ["divided by household members (per person), by adult equivalents (per adult equivalent)"]
        if self.deflator is not None:
            steps.append(f"divided by {self.deflator.column} / {self.deflator.base:g}: {self.prices} prices")
        if self.ppp is not None:
            factor, ratio_ = self.ppp.factor, self.ppp.cpi_ratio
            steps.append(f"divided by {factor:g} {has.currency} per {self.ppp.year} PPP USD and by {ratio_:g} (prices)")
        return {
            "column": self.column("person"),
            "unit": self.unit("person"),
            "prices": self.prices,
            "file": has.model_dump(),
            "deflator": self.deflator.model_dump() if self.deflator else None,
            "ppp": self.ppp.model_dump() if self.ppp else None,
            "steps": steps,
        }


def days(period: str | float) -> float:
    """Length of a period in days."""
    return DAYS[period] if isinstance(period, str) else float(period)


def per_day(amount: pd.Series, period: str | float) -> pd.Series:
    """An amount over a period as an amount a day."""
    return amount / days(period)


def ratio(of: str, divisor: str, members: Mapping[str, pd.Series]) -> pd.Series:
    """What an amount ``of`` a household, person or adult equivalent is multiplied by to be one of a ``divisor``.

    Exactly 1 where both are the same, so that a household at the poverty line stays there; NaN where a number of
    members is missing or not above zero.
    """
    wanted = members[divisor].where(members[divisor] > 0)
    if of == "household":
        return 1.0 / wanted
    return members[of].where(members[of] > 0) / wanted
