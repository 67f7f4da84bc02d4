# SPDX-License-Identifier: GPL-2.0-or-later
"""The tools behind ./vas: one module for each command, and what they share."""
