defmodule MyAppWeb.Pow.Mailer do
  @moduledoc "Writes mails to the log, for lack of a mail server."
  use Pow.Phoenix.Mailer

  require Logger

  @impl true
  def cast(mail), do: mail

  @impl true
  def process(mail), do: Logger.info("Mail to #{mail.user.email}: #{mail.text}")
end
