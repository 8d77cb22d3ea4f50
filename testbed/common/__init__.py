# SPDX-License-Identifier: Apache-2.0
"""What every room needs: errors, settings, running commands, cached artefacts, progress, YAML."""
