"""The table of the tokens of who sends spans."""

import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='ReceiverToken',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('service', models.CharField(max_length=255, verbose_name='service')),
                ('hash', models.CharField(max_length=64, unique=True, verbose_name='SHA-256 of the token')),
                ('spans_per_second', models.PositiveIntegerField(blank=True, null=True, verbose_name='spans per second')),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, verbose_name='created at')),
                ('revoked_at', models.DateTimeField(blank=True, null=True, verbose_name='revoked at')),
            ],
            options={
                'db_table': 'otel_audit_receiver_token',
                'verbose_name': 'receiver token',
                'verbose_name_plural': 'receiver tokens',
                'default_permissions': (),
            },
        ),
    ]
