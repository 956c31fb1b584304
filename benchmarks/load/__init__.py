"""Overload: what one client can do to an edge, what another caller notices of it, and how many callers are admitted.

A whole system with scripted engines is started; burdens and callers are processes of their own.
"""
