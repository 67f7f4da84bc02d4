# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests share, apart from what the front door's commands use, too (scripts/vas)."""
