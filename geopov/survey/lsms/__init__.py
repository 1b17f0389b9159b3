"""Household surveys of the LSMS kind: consumption and positions, read through a small adapter a survey."""

from geopov.survey.lsms.adapter import Adapter, adapter_names, adapter_table, read_adapter
from geopov.survey.lsms.prices import Ppp
from geopov.survey.lsms.read import read_lsms

__all__ = ["Adapter", "Ppp", "adapter_names", "adapter_table", "read_adapter", "read_lsms"]
